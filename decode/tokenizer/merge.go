package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"lessrag/decode/gguf"
)

// pair is two neighbouring tokens.
type pair struct{ left, right int32 }

// merges says which tokens join, and which first.
type merges struct {
	bytes [256]int32      // the token of each single byte, -1 if the vocabulary lacks it
	join  map[pair]merged // what a pair becomes
}

// merged is the token that a pair becomes; the lowest rank joins first.
type merged struct{ rank, id int32 }

// readMerges reads tokenizer.ggml.merges, "left right" in order of rank.
func readMerges(f *gguf.File, ids map[string]int32) (merges, error) {
	const key = "tokenizer.ggml.merges"
	rules, ok := f.Strings(key)
	if !ok {
		return merges{}, errors.New(key + " must be a list of strings")
	}
	m := merges{join: make(map[pair]merged, len(rules))}
	for b := range m.bytes {
		id, ok := ids[string(byteRunes[b])]
		if !ok {
			id = -1
		}
		m.bytes[b] = id
	}
	for rank, rule := range rules {
		left, right, _ := strings.Cut(rule, " ")
		l, ok1 := ids[left]
		r, ok2 := ids[right]
		id, ok3 := ids[left+right]
		if !ok1 || !ok2 || !ok3 {
			return merges{}, fmt.Errorf("%s: rule %d, %q, is not two tokens that join into a third", key, rank, rule)
		}
		if _, twice := m.join[pair{l, r}]; twice {
			return merges{}, fmt.Errorf("%s: rule %d, %q, appears twice", key, rank, rule)
		}
		m.join[pair{l, r}] = merged{int32(rank), id}
	}
	return m, nil
}

// merger is the working memory for one word: its symbols as a linked list, and
// a heap of pairs that may join. A word of n bytes costs at most 3n heap
// entries, O(n log n), however long it is.
type merger struct {
	symbols []symbol
	heap    []candidate
	pops    int // candidates looked at for the last word
}

// symbol is a token so far; next and prev are indices, -1 at the ends. One that
// was joined to its left neighbour has id -1.
type symbol struct{ id, prev, next int32 }

// candidate is a pair that could join, as it was when it was found.
type candidate struct {
	rank, at  int32 // at: index of the left symbol
	pair      pair
	becomesID int32
}

var mergers = sync.Pool{New: func() any { return new(merger) }}

// merge appends the tokens of word to ids.
func (m *merger) merge(ids []int32, rules *merges, word string) []int32 {
	m.symbols, m.heap, m.pops = m.symbols[:0], m.heap[:0], 0
	for i := range len(word) {
		if id := rules.bytes[word[i]]; id >= 0 {
			n := int32(len(m.symbols))
			m.symbols = append(m.symbols, symbol{id, n - 1, n + 1})
		}
	}
	if len(m.symbols) == 0 {
		return ids
	}
	m.symbols[len(m.symbols)-1].next = -1
	for i := range m.symbols {
		m.consider(rules, int32(i))
	}
	for len(m.heap) > 0 {
		c := m.pop()
		left := &m.symbols[c.at]
		if left.id != c.pair.left || left.next < 0 || m.symbols[left.next].id != c.pair.right {
			continue // one of the two has joined another since
		}
		right := &m.symbols[left.next]
		left.id, left.next, right.id = c.becomesID, right.next, -1
		if left.next >= 0 {
			m.symbols[left.next].prev = c.at
		}
		m.consider(rules, left.prev)
		m.consider(rules, c.at)
	}
	for i := int32(0); i >= 0; i = m.symbols[i].next {
		ids = append(ids, m.symbols[i].id)
	}
	m.shrink()
	return ids
}

// consider puts the pair that begins at symbol i on the heap if it can join.
func (m *merger) consider(rules *merges, i int32) {
	if i < 0 || m.symbols[i].next < 0 {
		return
	}
	p := pair{m.symbols[i].id, m.symbols[m.symbols[i].next].id}
	if to, ok := rules.join[p]; ok {
		m.push(candidate{to.rank, i, p, to.id})
	}
}

// shrink forgets the memory of an exceptionally long word.
func (m *merger) shrink() {
	const keep = 1 << 14
	if cap(m.symbols) > keep {
		m.symbols, m.heap = nil, nil
	}
}

// less orders candidates by rank, then from left to right.
func (c candidate) less(d candidate) bool {
	return c.rank < d.rank || c.rank == d.rank && c.at < d.at
}

// push and pop keep heap[0] the least candidate (a binary heap).
func (m *merger) push(c candidate) {
	h := append(m.heap, c)
	i := len(h) - 1
	for i > 0 && c.less(h[(i-1)/2]) {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = c
	m.heap = h
}

func (m *merger) pop() candidate {
	m.pops++
	h := m.heap
	top, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	i := 0
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].less(h[child]) {
			child++
		}
		if !h[child].less(last) {
			break
		}
		h[i] = h[child]
		i = child
	}
	if len(h) > 0 {
		h[i] = last
	}
	m.heap = h
	return top
}
