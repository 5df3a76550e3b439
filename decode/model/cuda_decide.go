package model

import (
	"sync"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// What a sequence gives up by attention is decided before a pass begins, by what was observed in earlier ones. Only blocks
// that follow another one of their sequence, and what stays of those that do not fit, are decided while it runs, layer by layer.

// decideFirst lets the policies that watch attention make room for the first blocks of their sequences in all layers, each
// sequence on its own.
func (c *CUDA) decideFirst(b *cudaBatch) {
	var all sync.WaitGroup
	for i := range b.blocks {
		block := &b.blocks[i]
		s := block.sequence
		if !s.watched() || block.wave > 0 {
			continue
		}
		if c.foresee(block); !block.evicts {
			continue
		}
		var sums learnt
		if block.learns {
			sums = c.learn(s, 0, c.config.Layers)
		}
		all.Go(func() {
			s.observe(0, sums)
			for layer := range c.config.Layers {
				s.books.makeRoom(layer, block.n)
			}
		})
	}
	all.Wait()
}

// foresee tells whether attention has to decide before a block is stored, and whether it fits then.
func (c *CUDA) foresee(block *cudaBlock) {
	if block.sequence.late {
		c.makeRoomLate(block)
	} else {
		c.makeRoom(block)
	}
}

// book notes that such a block, which fits, is stored.
func (c *CUDA) book(block *cudaBlock) {
	s := block.sequence
	for layer := range c.config.Layers {
		s.books.append(layer, block.n)
	}
	s.books.Advance(block.n)
}

// decide lets the policies of a wave's blocks that wait make room in a layer, by what earlier blocks have left there.
func (c *CUDA) decide(b *cudaBatch, layer int, w *wave) {
	late := cutTables{}
	for _, i := range w.late {
		block := &b.blocks[i]
		s := block.sequence
		if !block.waits {
			continue
		}
		ahead := block.position - s.books.Position() // tokens that the other layers have yet to store
		s.books.Advance(ahead)
		if block.evicts {
			if block.learns {
				s.observe(layer, c.learn(s, layer, 1))
			}
			late.add(s, layer, cuda.Place{}, s.books.makeRoom(layer, block.n))
			if s.late {
				c.seeLate(b, layer, block)
			}
		}
		if block.fits {
			s.books.append(layer, block.n)
		}
		s.books.Advance(-ahead)
	}
	c.cutLate(layer, &late)
}

// decideInserts lets them keep what they will of blocks that did not fit, after these were attended.
func (c *CUDA) decideInserts(b *cudaBatch, layer int, w *wave) {
	late := cutTables{}
	for _, i := range w.late {
		block := &b.blocks[i]
		s := block.sequence
		if block.fits {
			continue
		}
		ahead := block.position - s.books.Position()
		s.books.Advance(ahead)
		if block.saw > 0 {
			s.observe(layer, c.learn(s, layer, 1))
		}
		late.add(s, layer, c.scratchPlace(b).After(block.first), s.books.insert(layer, block.n, c.ownSums(block)))
		s.books.Advance(-ahead)
	}
	c.cutLate(layer, &late)
}

func (c *CUDA) cutLate(layer int, late *cutTables) {
	if late.empty() {
		return
	}
	late.stage(&c.late)
	c.send(&c.late)
	c.cut(layer, late)
}

// learnt is what slots and packed tokens got of attention [layers, kvHeads, …] in some layers.
type learnt struct {
	layers       int
	held, groups []float32
}

// learn reads that: of all layers at once, where a pass is yet to begin.
func (c *CUDA) learn(s *cudaSequence, first, layers int) learnt {
	held, groups := c.heads.KVHeads*s.room, c.heads.KVHeads*s.mostGroups()*cache.GroupTokens // of a layer
	all := make([]float32, layers*(held+groups))
	l := learnt{layers, all[:layers*held], all[layers*held:]}
	if layers == c.config.Layers {
		c.download(cuda.Bytes(all), device.Pointer(4*s.sums)) // the sums of what is packed lie behind the others
	} else {
		c.download(cuda.Bytes(l.held), device.Pointer(4*(s.sums+int64(first*held))))
		c.download(cuda.Bytes(l.groups), device.Pointer(4*(s.packedSums+int64(first*groups))))
	}
	return l
}

// observe gives it to the books, from one layer on.
func (s *cudaSequence) observe(first int, l learnt) {
	for i := range l.layers {
		s.books.observe(first+i, s.room, rowOf(l.held, i, len(l.held)/l.layers), rowOf(l.groups, i, len(l.groups)/l.layers))
	}
}

// ownSums [kvHeads, n] is what a block's rows got of its own attention.
func (c *CUDA) ownSums(block *cudaBlock) []float32 {
	return c.sumsAt(c.blockSums+device.Pointer(4*block.first), c.limits.Tokens, block.n)
}

// sumsAt [kvHeads, n] are n sums of every KV head, each so many after those of the one before.
func (c *CUDA) sumsAt(at device.Pointer, after, n int) []float32 {
	c.sums = resize(c.sums, (c.heads.KVHeads-1)*after+n)
	c.download(cuda.Bytes(c.sums), at)
	var sums []float32
	for head := range c.heads.KVHeads {
		sums = append(sums, c.sums[head*after:][:n]...)
	}
	return sums
}
