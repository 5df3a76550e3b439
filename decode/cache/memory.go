package cache

import (
	"fmt"

	"lessrag/decode/passages"
)

// A passage memory is what little is kept of a passage: of each KV head the tokens that
// got most attention, and a state that has absorbed the others. Since the states of
// LESS and MomentKV are sums over tokens, those of passages that were read apart can be
// added up.

// Remembers tells whether sequences of this cache can take passage memories: they have
// a state, and leave tokens at their positions in one form.
func (s Spec) Remembers() bool {
	switch s.Policy {
	case Sinks, H2O, TOVA, CORM:
		return s.State != "" && !s.Packs()
	}
	return false
}

// Distil fills an empty sequence, of the policy h2o, with the tokens from first on that
// a desk of the same policy holds: its budget of each KV head's heavy hitters. Its states absorb
// the others; the tokens before first are left out.
func (s *Sequence) Distil(desk *Sequence, first int) {
	if s.position != 0 || s.plan.Spec.Policy != H2O || desk.plan.Spec.Policy != H2O || first > desk.position {
		panic(fmt.Sprintf("cache: a memory of %s distilled from %s", s.plan.Spec, desk.plan.Spec))
	}
	dim, n := s.plan.Shape.HeadDim, desk.position-first
	ranks := make([]int32, n)
	for i := range s.heads {
		h := &desk.heads[i]
		source := head{k: h.k[first*dim:], v: h.v[first*dim:], positions: h.positions[first:], len: n}
		kept := Keep(nil, h.attention[first:first+n], s.plan.Keeps[i], ranks)
		s.sift(i, source, 0, n, kept)
	}
	s.position = desk.position
}

// Distilled is what Distil has filled the sequence with, as a memory of the n last
// tokens.
func (s *Sequence) Distilled(n int) *passages.Passage {
	p := &passages.Passage{Tokens: n, First: s.position - n, Heads: make([]passages.Head, len(s.heads))}
	dim := s.plan.Shape.HeadDim
	for i := range p.Heads {
		h, to := &s.heads[i], &p.Heads[i]
		to.K, to.V = append(to.K, h.k[:h.len*dim]...), append(to.V, h.v[:h.len*dim]...)
		to.Positions = make([]int32, h.len)
		for j, position := range h.positions[:h.len] {
			to.Positions[j] = position - int32(p.First)
		}
		to.Absorbed, to.Clock = s.states[i].Absorbed, s.states[i].Clock
		for _, part := range s.states[i].parts() {
			to.State = append(to.State, part...)
		}
	}
	return p
}

// FitsMemory tells what is wrong with a memory for sequences with this plan, nil if nothing.
func (plan Plan) FitsMemory(p *passages.Passage) error {
	if !plan.Spec.Remembers() || plan.Staging {
		return fmt.Errorf("cache %s takes no passage memories", plan.Spec)
	}
	if len(p.Heads) != len(plan.Slots) {
		return fmt.Errorf("a passage memory of %d KV heads for %d", len(p.Heads), len(plan.Slots))
	}
	kvHeads, dim := plan.Shape.KVHeads, plan.Shape.HeadDim
	for i := range p.Heads {
		h, same := &p.Heads[i], &p.Heads[i-i%kvHeads]
		n := len(h.Positions)
		if n != len(same.Positions) || len(h.K) != n*dim || len(h.V) != n*dim || n > p.Tokens || h.Absorbed < 0 || h.Absorbed > p.Tokens-n {
			return fmt.Errorf("KV head %d of a passage memory holds %d tokens and %d absorbed ones of %d", i, n, h.Absorbed, p.Tokens)
		}
		if h.Clock < 0 || h.Clock > p.First+p.Tokens+ClockStep {
			return fmt.Errorf("KV head %d of a passage memory has faded to position %d of %d", i, h.Clock, p.First+p.Tokens)
		}
		if len(h.State) != plan.stateFloats(i) {
			return fmt.Errorf("KV head %d of a passage memory has a state of %d numbers for %d", i, len(h.State), plan.stateFloats(i))
		}
		last := int32(-1)
		for _, at := range h.Positions {
			if at <= last || int(at) >= p.Tokens {
				return fmt.Errorf("KV head %d of a passage memory holds token %d after %d, of %d", i, at, last, p.Tokens)
			}
			last = at
		}
	}
	return nil
}

// AppendAt is Append of tokens that do not follow one another: at positions, rising, that begin at start.
func (s *Sequence) AppendAt(layer, kvHead int, k, v []uint16, start int, positions []int32) {
	s.Append(layer, kvHead, k, v)
	h := s.head(layer, kvHead)
	for i, position := range positions {
		h.positions[h.len-len(positions)+i] = int32(start) + position
	}
}

// Place lets the sequence go on as if it had been fed a passage, of which it holds the
// tokens of a memory that FitsMemory, their keys turned to where they stand now. Join joins
// the state of a KV head; it is told by how many positions the passage has moved.
func (s *Sequence) Place(p *passages.Passage, join func(state *State, layer, kvHead int, head *passages.Head, by int)) {
	kvHeads, dim := s.plan.Shape.KVHeads, s.plan.Shape.HeadDim
	by, start := s.position-p.First, s.position
	turned := make([]uint16, s.plan.Interval*dim)
	for layer := range s.plan.Shape.Layers {
		total := len(p.Heads[layer*kvHeads].Positions)
		for from := 0; from < total; from += s.plan.Interval {
			n := min(s.plan.Interval, total-from)
			s.MakeRoom(layer, n)
			for kvHead := range kvHeads {
				i := layer*kvHeads + kvHead
				memory := &p.Heads[i]
				keys := memory.K[from*dim : (from+n)*dim]
				if by != 0 {
					s.handlers.Turn(turned[:n*dim], keys, by)
					keys = turned[:n*dim]
				}
				s.AppendAt(layer, kvHead, keys, memory.V[from*dim:(from+n)*dim], start, memory.Positions[from:from+n])
			}
		}
		for kvHead := range kvHeads {
			i := layer*kvHeads + kvHead
			s.evicted += int64(p.Tokens - total)
			if state := s.State(layer, kvHead); state != nil && p.Heads[i].Absorbed > 0 {
				join(state, layer, kvHead, &p.Heads[i], by)
			}
		}
	}
	s.position += p.Tokens
}
