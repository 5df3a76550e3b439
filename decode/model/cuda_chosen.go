package model

import (
	"slices"

	"lessrag/lesskernels/cuda"
)

// Sequences of which each KV head holds a number of tokens of its own: staging sequences, and those that a question was
// asked for. What these evict later goes by the scores of then, so it is known before a pass begins.

// layerCuts are evictions in a layer.
type layerCuts struct{ evictions, inserts cutTables }

// cutsOf are those of a layer.
func (w *wave) cutsOf(c *CUDA, layer int) *layerCuts {
	if w.layers == nil {
		w.layers = make([]layerCuts, c.config.Layers)
	}
	return &w.layers[layer]
}

// stageLayers puts them among a batch's tables, for as many layers as there is room.
func (c *CUDA) stageLayers(w *wave) {
	for w.staged < len(w.layers) && len(c.tables.staged) < c.mostTables {
		w.layers[w.staged].evictions.stage(&c.tables)
		w.layers[w.staged].inserts.stage(&c.tables)
		w.staged++
	}
}

// cutIn carries some of them out.
func (c *CUDA) cutIn(layer int, w *wave, t *cutTables) {
	if layer < w.staged {
		c.cut(layer, t)
	} else {
		c.cutLate(layer, t)
	}
}

// makeRoomEach cuts KV heads down to their budgets in those layers where one has no room for the block. A block
// that does not fit in every layer is stored after it was attended, which is the same in those where it fits.
func (c *CUDA) makeRoomEach(w *wave, block *cudaBlock) {
	s := block.sequence
	block.fits = true
	for layer := range c.config.Layers {
		cuts := s.books.makeRoom(layer, block.n)
		if slices.ContainsFunc(cuts, func(c cut) bool { return len(c.gone)+len(c.packs) > 0 }) {
			block.evicts = true
			w.cutsOf(c, layer).evictions.add(s, layer, cuda.Place{}, cuts)
		}
		block.fits = block.fits && s.books.Fits(layer, block.n)
	}
}

// keepEach notes that a block is stored, or what stays of it after it was attended.
func (c *CUDA) keepEach(w *wave, block *cudaBlock, scratch cuda.Place) {
	s := block.sequence
	for layer := range c.config.Layers {
		if block.fits {
			s.books.append(layer, block.n)
		} else {
			w.cutsOf(c, layer).inserts.add(s, layer, scratch, s.books.insert(layer, block.n, nil))
		}
	}
	s.books.Advance(block.n)
}

// exceeds tells whether a sequence that evicts nothing has no room for n more tokens.
func (s *cudaSequence) exceeds(n int) bool {
	switch {
	case s.plan.Staging:
		for i, slots := range s.plan.Slots {
			kvHeads := s.backend.heads.KVHeads
			if s.books.Len(i/kvHeads, i%kvHeads)+n > slots {
				return true
			}
		}
		return false
	case s.plan.Spec.Bounded():
		return false
	}
	return s.position+n > slices.Min(s.plan.Slots)
}

// rewind forgets the last n tokens, which all KV heads still hold.
func (s *cudaSequence) rewind(n int) {
	s.books.Rewind(n)
	s.position -= n
	s.seen = min(s.seen, s.position)
	if !s.each {
		if s.watched() && !s.late {
			s.pace.Rewind(n)
		}
		s.known = min(s.known, s.holds(0, 0))
	}
}
