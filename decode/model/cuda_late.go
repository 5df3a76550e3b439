package model

import (
	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// Sequences whose KV heads hold as many tokens as attention decides: what their rows see of a layer is known when
// that layer has decided.

// makeRoomLate tells whether the block may have to wait for a decision, and whether it fits in every layer after it, by its
// position and size alone: the result is the same whatever else is in the batch. One that need not fit is stored after it was
// attended.
func (c *CUDA) makeRoomLate(block *cudaBlock) {
	s, most := block.sequence, block.sequence.plan.Interval
	if s.mostGroups() > 0 {
		most = min(most, cache.GroupTokens)
	}
	quiet := s.position+block.n <= s.room && (s.position == 0 || !s.plan.Eager()) // no token has left or been packed yet
	block.fits = quiet || block.n <= most
	block.evicts = !quiet && (block.wave > 0 || !block.fits) // of what an earlier block of the batch leaves, only the most is known
	for layer := 0; layer < c.config.Layers && !quiet; layer++ {
		block.evicts = block.evicts || s.books.Changes(layer, block.n)
	}
	if block.evicts {
		block.learns = s.known > 0
		s.gave, s.known = true, 0
	}
}

// stored is how many of the block's rows are stored before it is attended.
func (b *cudaBlock) stored() int {
	if b.fits {
		return b.n
	}
	return 0
}

// seeLate tells the device what the rows of a block see of a layer that has decided while the pass runs.
func (c *CUDA) seeLate(b *cudaBatch, layer int, block *cudaBlock) {
	kvHeads := c.heads.KVHeads
	for head := range kvHeads {
		s := block.sequence
		held, groups := s.books.Loose(layer, head), s.groupsOf(layer, head)
		for row := range block.n {
			at := layer*b.stride + (block.first+row)*kvHeads + head
			b.live.values[at], b.packed.values[at] = int32(held+min(row+1, block.stored())), int32(groups)
		}
	}
	from := layer*b.stride + block.first*kvHeads
	c.uploadAgain(&b.live, from, block.n*kvHeads)
	if block.sequence.mostGroups() > 0 {
		c.uploadAgain(&b.packed, from, block.n*kvHeads)
	}
}

// uploadAgain brings some numbers of a table to the device that were others when it was uploaded.
func (c *CUDA) uploadAgain(t *table[int32], from, n int) {
	if c.failed == nil {
		c.check(c.stream.Upload(t.at+device.Pointer(4*from), cuda.Bytes(t.values[from:from+n])))
	}
}

// settleSums lets the books know what was observed since the last decision.
func (s *cudaSequence) settleSums() {
	if s.known > 0 {
		s.observe(0, s.backend.learn(s, 0, s.backend.config.Layers))
	}
	s.known = 0
}
