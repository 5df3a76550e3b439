package model

import (
	"fmt"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// cudaSequence is the cache of one running sequence on a device. The caches that it
// knows decide by positions alone, so all layers and KV heads hold the same tokens.
type cudaSequence struct {
	backend  *CUDA
	plan     cache.Plan
	memory   device.Pointer // keys [layers, kvHeads, slots, headDim] bf16, and values likewise
	place    cuda.Place
	slots    slots
	position int // of the next token
	evicted  int
}

// NewSequence takes the Plan's memory on the device.
func (c *CUDA) NewSequence(p cache.Plan) (Sequence, error) {
	if p.Spec.Bounded() && p.Spec.Policy != cache.Sinks || p.Spec.State != "" || p.Spec.Packs() || p.Staging {
		return nil, fmt.Errorf("model: cache %s is not held on a card yet", p.Spec)
	}
	n := p.Slots[0]
	heads := int64(len(p.Slots)) * int64(n)
	memory, err := c.device.Alloc(2 * 2 * heads * int64(c.heads.Dim))
	if err != nil {
		return nil, fmt.Errorf("take memory for a sequence with cache %s: %w", p.Spec, err)
	}
	first := int64(memory) / int64(2*c.heads.Dim) // memory begins at a multiple of 256
	return &cudaSequence{backend: c, plan: p, memory: memory, slots: slots{room: n, keep: p.Keep},
		place: cuda.Place{Key: first, Value: first + heads, Layer: int64(c.heads.KVHeads * n), Head: int64(n)}}, nil
}

func (s *cudaSequence) Position() int    { return s.position }
func (s *cudaSequence) Plan() cache.Plan { return s.plan }

// Held tells what the sequence holds now.
func (s *cudaSequence) Held() cache.Held {
	n := len(s.slots.positions)
	return cache.Held{Bytes: int64(n) * s.plan.Shape.TokenBytes(), Kept: n, Evicted: s.evicted}
}

// Free gives the memory back.
func (s *cudaSequence) Free() error { return s.backend.device.Free(s.memory) }

// slots are what every KV head of a sequence holds. Attention does not mind the order, so
// what leaves is replaced where it lay, and the tokens held are always the first slots.
type slots struct {
	positions []int32 // by slot
	room      int
	keep      int // tokens that survive an eviction
}

// shift is a token that comes to another slot: from one, or from a block that is not stored.
type shift struct{ from, to int }

// fits tells whether n more tokens have slots.
func (s *slots) fits(n int) bool { return len(s.positions)+n <= s.room }

// append gives the next n positions the next slots, the first of which it returns.
func (s *slots) append(position, n int) int {
	first := len(s.positions)
	for i := range n {
		s.positions = append(s.positions, int32(position+i))
	}
	return first
}

// cut leaves the budget of what is held and a block of n tokens at a position: the sinks
// and the most recent tokens, as the policy sinks of package cache does. It tells which
// slots move to which, and which tokens of the block go where.
func (s *slots) cut(position, n int) (moved, stored []shift) {
	end := position + n
	held := len(s.positions)
	keep := min(s.keep, held+n)
	recent := int32(end - keep + min(cache.SinkTokens, keep))
	stays := func(p int32) bool { return held+n <= s.keep || p < cache.SinkTokens || p >= recent }

	var free []int // slots of those that stay which are empty, rising
	for slot := range keep {
		if slot >= held || !stays(s.positions[slot]) {
			free = append(free, slot)
		}
	}
	kept := append([]int32(nil), s.positions[:min(held, keep)]...)
	for len(kept) < keep {
		kept = append(kept, 0)
	}
	for slot := keep; slot < held; slot++ {
		if stays(s.positions[slot]) {
			moved = append(moved, shift{slot, free[0]})
			kept[free[0]], free = s.positions[slot], free[1:]
		}
	}
	for i := range n {
		if p := int32(position + i); stays(p) {
			stored = append(stored, shift{i, free[0]})
			kept[free[0]], free = p, free[1:]
		}
	}
	s.positions = kept
	return moved, stored
}
