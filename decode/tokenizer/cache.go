package tokenizer

import (
	"slices"
	"strings"
	"sync"
)

const (
	cacheWords   = 1 << 14
	cacheWordLen = 32 // bytes; longer words seldom return
)

// cache remembers the tokens of words; when it is full it starts afresh.
type cache struct {
	mu    sync.RWMutex
	words map[string][]int32
}

// get returns the tokens of word, which must not be changed.
func (c *cache) get(word string) ([]int32, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ids, ok := c.words[word]
	return ids, ok
}

// put copies both word and ids.
func (c *cache) put(word string, ids []int32) {
	if len(word) > cacheWordLen {
		return
	}
	word, ids = strings.Clone(word), slices.Clone(ids)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.words == nil || len(c.words) >= cacheWords {
		c.words = make(map[string][]int32)
	}
	c.words[word] = ids
}
