package model

import (
	"errors"
	"fmt"
	"slices"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
	"lessrag/lesskernels/cpu"
)

// ErrNoMemories tells that the states of the feature maps in use cannot be moved.
var ErrNoMemories = errors.New("these feature maps take rotated keys: their states belong to one place in a prompt, and passages cannot be remembered in them")

// Distil is the memory of the tokens from first on that a desk of the policy h2o holds,
// in as many bytes as the plan, of h2o and a state, has for a sequence.
func (c *CPU) Distil(desk Sequence, first int, plan cache.Plan) (*passages.Passage, error) {
	if plan.Spec.State == cache.Less && c.memory.postRoPE {
		return nil, ErrNoMemories
	}
	made, err := c.NewSequence(plan)
	if err != nil {
		return nil, err
	}
	s := made.(*cache.Sequence)
	s.Distil(desk.(*cache.Sequence), first)
	c.absorb()
	p := s.Distilled(s.Position() - first)
	return p, s.Free()
}

// Place lets a sequence go on as if it had been fed a passage of which there is a
// memory.
func (c *CPU) Place(made Sequence, p *passages.Passage) error {
	s := made.(*cache.Sequence)
	if err := s.Plan().FitsMemory(p); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	switch {
	case s.Plan().Spec.State == cache.Less && c.memory.postRoPE:
		return ErrNoMemories
	case s.Position()+p.Tokens > c.config.Context:
		return fmt.Errorf("model: a passage of %d tokens would exceed the context of %d", p.Tokens, c.config.Context)
	}
	s.Place(p, func(state *cache.State, layer, kvHead int, h *passages.Head, by int) {
		joinState(state, h, by, c.frequencies, func(s *cache.State, clock int) { wind(c.memory.maps[layer].Rates(kvHead), s, clock) })
	})
	c.absorb() // what made room for it
	return nil
}

// joinState adds the state of a memory, moved by so many positions, to that of a KV head. Those of LESS are sums of
// features of keys as they were before positions turned them; the younger of the two
// grows as old as the other: wind puts its clock forward. Moments are of turned
// keys: mean and covariance turn as the keys do, and are merged as those of two samples
// are (Chan, Golub and LeVeque).
func joinState(state *cache.State, h *passages.Head, by int, frequencies []float64, wind func(s *cache.State, clock int)) {
	if state.KeyMean == nil {
		moved := cache.State{H: slices.Clone(h.State[:len(state.H)]), Z: slices.Clone(h.State[len(state.H):]), Clock: h.Clock + by}
		wind(state, moved.Clock)
		wind(&moved, state.Clock)
		add(state.H, moved.H)
		add(state.Z, moved.Z)
		state.Absorbed += h.Absorbed
		return
	}
	dim := 2 * len(frequencies)
	moments := append([]float32(nil), h.State...)
	keyMean, valueMean, covariance := moments[:dim], moments[dim:2*dim], moments[2*dim:]
	cos, sin := make([]float32, dim/2), make([]float32, dim/2)
	rotation(cos, sin, frequencies, by)
	cpu.RopeInterleaved(keyMean, 1, dim, cos, sin)
	cpu.RopeInterleaved(covariance, dim, dim, cos, sin)
	n, m := float32(state.Absorbed), float32(h.Absorbed)
	for j := range dim {
		keyMean[j] -= state.KeyMean[j]
		valueMean[j] -= state.ValueMean[j]
	}
	add(state.Covariance, covariance)
	for j := range dim {
		cpu.Axpy(rowOf(state.Covariance, j, dim), n*m/(n+m)*valueMean[j], keyMean)
	}
	cpu.Axpy(state.KeyMean, m/(n+m), keyMean)
	cpu.Axpy(state.ValueMean, m/(n+m), valueMean)
	state.Absorbed += h.Absorbed
}
