package passages

import "container/list"

// lru is an index of sizes that gives up the least recently used beyond a cap.
type lru[V any] struct {
	cap, bytes int64
	order      *list.List // of *item[V], the least recently used first
	items      map[Key]*list.Element
}

type item[V any] struct {
	key   Key
	value V
	bytes int64
}

func newLRU[V any](limit int64) lru[V] {
	return lru[V]{cap: limit, order: list.New(), items: map[Key]*list.Element{}}
}

// get finds an entry and makes it the most recently used.
func (l *lru[V]) get(k Key) (value V, ok bool) {
	e, ok := l.items[k]
	if !ok {
		return value, false
	}
	l.order.MoveToBack(e)
	return e.Value.(*item[V]).value, true
}

// put adds an entry, or replaces it, and returns the keys that had to go: the new
// one itself where it alone is beyond the cap.
func (l *lru[V]) put(k Key, value V, bytes int64) (gone []Key) {
	l.drop(k)
	l.items[k] = l.order.PushBack(&item[V]{k, value, bytes})
	l.bytes += bytes
	for l.bytes > l.cap {
		oldest := l.order.Front().Value.(*item[V]).key
		l.drop(oldest)
		gone = append(gone, oldest)
	}
	return gone
}

func (l *lru[V]) drop(k Key) {
	if e, ok := l.items[k]; ok {
		l.bytes -= e.Value.(*item[V]).bytes
		l.order.Remove(e)
		delete(l.items, k)
	}
}
