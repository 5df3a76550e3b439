package cache

import (
	"fmt"
	"math"
	"slices"
)

// NewDesk plans a scratch sequence of so many tokens for a cache of this Spec: like
// a staging sequence it evicts nothing and observes what the Spec's policy observes,
// and its tokens are written in any order (Lay). When all are there, a sequence that
// answers moves from it what it keeps: Move, or Take where a Chooser chose. The error
// is an *UnavailableError or a *PlanError.
func NewDesk(spec Spec, tokens int, shape Shape) (Plan, error) {
	if err := spec.Available(); err != nil {
		return Plan{}, err
	}
	if tokens < 1 || tokens > shape.Context {
		return Plan{}, &PlanError{Spec: spec, Budget: Budget{Tokens: max(0, min(tokens, math.MaxInt32))},
			Reason: fmt.Sprintf("a prompt has from 1 to %d tokens", shape.Context)}
	}
	p := Plan{Spec: spec.Desk(), Budget: Budget{Tokens: tokens}, Shape: shape, Staging: true, Keep: tokens}
	p.divide(repeat(tokens, shape.Layers*shape.KVHeads))
	return p, nil
}

// Desk is the Spec of a desk for a cache: what is evicted is absorbed, and what is
// stored is packed, where it is moved to.
func (s Spec) Desk() Spec { return Spec{Policy: s.Policy} }

// Lay makes an empty desk hold n tokens at their positions. Their keys and values
// are written through Segment before anything attends to them.
func (s *Sequence) Lay(n int) {
	if !s.plan.Staging || s.position != 0 || n > slices.Min(s.plan.Slots) {
		panic(fmt.Sprintf("cache: %d tokens laid out at %d of %d", n, s.position, s.plan.Keep))
	}
	for i := range s.heads {
		h := &s.heads[i]
		h.len = n
		for at := range n {
			h.positions[at] = int32(at)
		}
		clear(h.attention[:n*s.width])
	}
}

// Move fills an empty sequence with what its policy keeps of the tokens on a desk, as
// if they had come in one block: what does not fit is evicted, merged or absorbed. The
// desk stays as it is.
func (s *Sequence) Move(desk *Sequence) {
	n, shape := desk.position, s.plan.Shape
	if s.position != 0 || !desk.plan.Staging || len(s.heads) != len(desk.heads) || s.width != desk.width {
		panic("cache: a desk is moved into a sequence that has tokens, or into another model's")
	}
	kv, group := n*shape.HeadDim, max(1, shape.Group)
	k, v := make([]uint16, shape.KVHeads*kv), make([]uint16, shape.KVHeads*kv)
	var columns []float32
	if s.width > 0 { // of each head's query heads, the first stands for all
		columns = make([]float32, shape.KVHeads*group*n)
	}
	size := len(columns) / shape.KVHeads
	for layer := range shape.Layers {
		for kvHead := range shape.KVHeads {
			h := desk.head(layer, kvHead)
			copy(k[kvHead*kv:], h.k[:kv])
			copy(v[kvHead*kv:], h.v[:kv])
			copy(columns[kvHead*size:], h.attention[:n*s.width])
		}
		s.MakeRoom(layer, n)
		if !s.Fits(layer, n) {
			s.Insert(layer, k, v, columns)
			continue
		}
		for kvHead := range shape.KVHeads {
			s.Append(layer, kvHead, k[kvHead*kv:(kvHead+1)*kv], v[kvHead*kv:(kvHead+1)*kv])
			if s.width > 0 {
				s.Observe(layer, kvHead, 0, columns[kvHead*size:(kvHead+1)*size])
			}
		}
	}
	s.Advance(n)
}
