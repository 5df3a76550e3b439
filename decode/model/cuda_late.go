package model

import (
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// Sequences whose KV heads hold as many tokens as attention decides. What their rows see of a layer is known when
// that layer has decided, while a pass runs: once in interval tokens, it is uploaded then.

// makeRoomLate tells whether the block may have to wait for a decision, and whether it fits in every layer after it. A
// block that need not is stored after it was attended, which is the same where it fits.
func (c *CUDA) makeRoomLate(block *cudaBlock, follows bool) {
	s := block.sequence
	holds := !follows // of what an earlier block of the batch leaves, only the most is known
	block.evicts = follows
	for layer := range c.config.Layers {
		block.evicts = block.evicts || s.books.Decides(layer, block.n)
		for head := range c.heads.KVHeads {
			holds = holds && s.books.Len(layer, head)+block.n <= s.room
		}
	}
	block.fits = block.n <= s.plan.Interval || holds && !block.evicts
	if block.evicts {
		block.learns = s.known > 0
		s.gave, s.known = true, 0
	}
}

// mostHeld is the most that a KV head can hold when the block comes.
func (s *cudaSequence) mostHeld(block *cudaBlock) int {
	most := 0
	for layer := range s.backend.config.Layers {
		for head := range s.backend.heads.KVHeads {
			most = max(most, s.books.Len(layer, head))
		}
	}
	return min(most+block.ahead, s.room-min(s.room, block.stored()))
}

// stored is how many of the block's rows are stored before it is attended.
func (b *cudaBlock) stored() int {
	if b.fits {
		return b.n
	}
	return 0
}

// seeLate notes what the rows of a block see of a layer that has decided.
func (c *CUDA) seeLate(b *cudaBatch, layer int, block *cudaBlock) {
	kvHeads := c.heads.KVHeads
	for head := range kvHeads {
		held := block.sequence.books.Len(layer, head)
		for row := range block.n {
			at := layer*b.stride + (block.first+row)*kvHeads + head
			b.live.values[at] = int32(held + min(row+1, block.stored()))
		}
	}
	from := layer*b.stride + block.first*kvHeads
	c.uploadAgain(&b.live, from, block.n*kvHeads)
}

// uploadAgain brings some numbers of a table to the device that were others when it was uploaded.
func (c *CUDA) uploadAgain(t *table[int32], from, n int) {
	if c.failed == nil {
		c.check(c.stream.Upload(t.at+device.Pointer(4*from), cuda.Bytes(t.values[from:from+n])))
	}
}

// settleSums lets the books know what was observed since the last decision.
func (s *cudaSequence) settleSums() {
	for layer := 0; layer < s.backend.config.Layers && s.known > 0; layer++ {
		s.backend.learn(s, layer)
	}
	s.known = 0
}
