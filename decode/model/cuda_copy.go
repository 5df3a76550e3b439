package model

import (
	"slices"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda/device"
)

// The kept beginnings of prompts: see copy.go. What fails here but the taking of memory is told by the next Forward.

// Copy is a sequence that holds what s held after its first n tokens, in memory of about that size.
func (c *CUDA) Copy(s Sequence, n int) (Sequence, error) {
	if c.gone != nil {
		return nil, c.gone
	}
	from := s.(*cudaSequence)
	if from.late {
		from.settleSums()
	}
	kept, err := from.books.Copy(n)
	if err != nil {
		return nil, err
	}
	pace := kept
	if from.watched() && !from.late {
		if pace, err = from.pace.Copy(n); err != nil {
			kept.Free()
			return nil, err
		}
	}
	to, err := c.newSequence(from.books.CopyPlan(from.plan, n), &books{Sequence: kept, heads: from.books.heads, pruned: slices.Clone(from.books.pruned)}, pace)
	if err != nil {
		return nil, err
	}
	to.copyFrom(from)
	return to, nil
}

// Adopt makes a new sequence hold what another held after its first n tokens.
func (c *CUDA) Adopt(s, from Sequence, n int) {
	to, other := s.(*cudaSequence), from.(*cudaSequence)
	to.books.Adopt(other.books.Sequence, n)
	if to.watched() && !to.late && !other.each {
		to.pace.Adopt(other.pace, n)
	}
	to.copyFrom(other)
}

// copyFrom copies what the books say that the sequence has of another one: of each KV head the first slots, and where the
// other has been evicting, all else that it goes on from. What a staging sequence observed is not copied.
func (s *cudaSequence) copyFrom(from *cudaSequence) {
	c, dim, kvHeads := s.backend, int64(s.backend.heads.Dim), s.backend.heads.KVHeads
	rows := func(to, from, n int64) {
		c.check(c.stream.Copy(device.Pointer(2*dim*to), device.Pointer(2*dim*from), 2*dim*n))
	}
	s.position, s.each = s.books.Position(), s.each || from.each && !from.plan.Staging
	s.late = s.late && !s.each
	same := s.plan.Spec == from.plan.Spec
	if same {
		s.known, s.gave, s.copied = from.known, from.gave, slices.Clone(from.copied)
		s.copyStates(from)
		s.copyQueries(from)
		copy(s.books.pruned, from.books.pruned)
	}
	if slices.Contains(s.copied, true) {
		rows(s.sinks.Key, from.sinks.Key, int64(len(s.plan.Slots))*cache.SinkTokens)
	}
	for layer := range c.config.Layers {
		for head := range kvHeads {
			n := int64(s.books.Loose(layer%s.books.layers(), head%s.books.heads))
			if groups := len(s.books.Settled(layer%s.books.layers(), head%s.books.heads)) / 2; groups > 0 {
				i := layer*kvHeads + head
				c.check(c.stream.Copy(device.Pointer(s.groupAt[i]), device.Pointer(from.groupAt[i]), int64(groups)*s.groupBytes(i)))
			}
			to, other := s.placeOf(layer, head).In(layer), from.placeOf(layer, head).In(layer)
			rows(to.Key, other.Key, n)
			rows(to.Value, other.Value, n)
			if i := int64(layer*kvHeads + head); same && s.known > 0 {
				c.check(c.stream.Copy(device.Pointer(4*(s.sums+i*int64(s.room))), device.Pointer(4*(from.sums+i*int64(from.room))), 4*int64(s.known)))
			}
		}
	}
}
