package model

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// Memories of passages: see memory.go. They have the form of the CPU's, and their states are joined on the processor.

// Distil is the memory of the tokens from first on that a desk of the policy h2o holds, in as many bytes as the plan, of h2o
// and a state, has for a sequence.
func (c *CUDA) Distil(desk Sequence, first int, plan cache.Plan) (*passages.Passage, error) {
	if plan.Spec.State == cache.Less && c.turned() {
		return nil, ErrNoMemories
	}
	made, err := c.NewSequence(plan)
	if err != nil {
		return nil, err
	}
	s, from := made.(*cudaSequence), desk.(*cudaSequence)
	s.asked = math.MaxInt // whoever asks it stands elsewhere
	for layer := range c.config.Layers {
		sums := from.sumsOf(layer)
		for head := range c.heads.KVHeads {
			from.books.Observe(layer, head, 0, rowOf(sums, head, from.position))
		}
	}
	s.carryOut(from.place, s.books.distil(from.books, first))
	p := s.distilled(first, from.position-first)
	if err := errors.Join(c.failure(), s.Free()); err != nil {
		return nil, err
	}
	return p, nil
}

// distilled is what a sequence holds and has absorbed, as a memory of n tokens.
func (s *cudaSequence) distilled(first, n int) *passages.Passage {
	c, kvHeads, dim := s.backend, s.backend.heads.KVHeads, s.backend.heads.Dim
	p := &passages.Passage{Tokens: n, First: first, Heads: make([]passages.Head, len(s.plan.Slots))}
	for i := range p.Heads {
		layer, head, h := i/kvHeads, i%kvHeads, &p.Heads[i]
		at, positions := s.placeOf(layer, head).In(layer), s.books.Positions(layer, head)
		h.K, h.V = make([]uint16, len(positions)*dim), make([]uint16, len(positions)*dim)
		c.download(cuda.Bytes(h.K), c.rowAt(at.Key))
		c.download(cuda.Bytes(h.V), c.rowAt(at.Value))
		for _, position := range positions {
			h.Positions = append(h.Positions, position-int32(first))
		}
		if state := s.state(i); state != nil {
			h.Absorbed, h.Clock = n-len(positions), state.Clock
			h.State = slices.Concat(state.H, state.Z, state.KeyMean, state.ValueMean, state.Covariance)
		}
	}
	return p
}

// Place lets a sequence go on as if it had been fed a passage of which there is a memory.
func (c *CUDA) Place(sequence Sequence, p *passages.Passage) error {
	s := sequence.(*cudaSequence)
	switch err := s.plan.FitsMemory(p); {
	case err != nil:
		return fmt.Errorf("model: %w", err)
	case s.plan.Spec.State == cache.Less && c.turned():
		return ErrNoMemories
	case s.position+p.Tokens > c.config.Context:
		return fmt.Errorf("model: a passage of %d tokens would exceed the context of %d", p.Tokens, c.config.Context)
	}
	if err := s.spread(); err != nil {
		return err
	}
	s.settleSums()
	kvHeads, by := c.heads.KVHeads, s.position-p.First
	for layer := range c.config.Layers {
		for from, total := 0, len(p.Heads[layer*kvHeads].Positions); from < total; from += s.plan.Interval {
			s.placeSome(layer, p, from, min(s.plan.Interval, total-from), by)
		}
		for head := range kvHeads {
			if i := layer*kvHeads + head; p.Heads[i].Absorbed > 0 {
				s.join(layer, head, &p.Heads[i], by)
			}
		}
	}
	s.books.Advance(p.Tokens)
	if s.pace != s.books.Sequence {
		s.pace.Advance(p.Tokens)
	}
	s.position, s.gave = s.position+p.Tokens, true
	return c.failure()
}

// placeSome places n of the tokens of a memory in a layer, after it has made room for them.
func (s *cudaSequence) placeSome(layer int, p *passages.Passage, from, n, by int) {
	c, kvHeads, dim := s.backend, s.backend.heads.KVHeads, s.backend.heads.Dim
	room, turns := cutTables{}, cutTables{}
	room.add(s, layer, cuda.Place{}, s.books.makeRoom(layer, n))
	c.cutLate(layer, &room)
	for head := range kvHeads {
		h, first := &p.Heads[layer*kvHeads+head], s.books.Loose(layer, head)
		s.books.number(n, func(i int) uint32 { return uint32(first + i) })
		s.books.AppendAt(layer, head, s.books.k, s.books.v, s.position, h.Positions[from:from+n])
		to := s.placeOf(layer, head).After(first)
		c.check(c.stream.Upload(c.rowAt(to.In(layer).Key), cuda.Bytes(h.K[from*dim:(from+n)*dim])))
		c.check(c.stream.Upload(c.rowAt(to.In(layer).Value), cuda.Bytes(h.V[from*dim:(from+n)*dim])))
		if by != 0 {
			turns.turnRun(s, to, n, by)
		}
	}
	c.cutLate(layer, &turns)
	if s.pace != s.books.Sequence && layer == 0 {
		s.pace.MakeRoom(0, n)
		s.pace.Append(0, 0, s.books.k, s.books.v)
	}
}

// spread gives every KV head books of its own, where one stood for all: what is placed stands at other positions in each.
func (s *cudaSequence) spread() error {
	if s.books.heads*s.books.layers() == len(s.plan.Slots) {
		return nil
	}
	each, err := newBooks(s.plan, s.plan.Ledgers())
	if err != nil {
		return err
	}
	each.Spread(s.books.Sequence)
	s.freeBooks()
	s.books, s.pace, s.each, s.copied = each, each.Sequence, true, make([]bool, each.layers())
	return nil
}

// stateAt is where the state of KV head i lies, in numbers from the table's beginning.
func (s *cudaSequence) stateAt(i int) int {
	at := 2 * len(s.plan.Slots)
	for j := range i {
		at += s.stateSize(j)
	}
	return at
}

// state reads what KV head i has absorbed; nil: it has no state.
func (s *cudaSequence) state(i int) *cache.State {
	size, dim := s.stateSize(i), s.backend.heads.Dim
	if size == 0 {
		return nil
	}
	entry, x := make([]cuda.StateEntry, 1), make([]float32, size)
	s.backend.download(cuda.Bytes(entry), device.Pointer(4*(s.table+2*int64(i))))
	if entry[0].Further >= 0 { // it has absorbed something
		s.backend.download(cuda.Bytes(x), device.Pointer(4*(s.table+int64(s.stateAt(i)))))
	}
	last := int(math.Float32bits(x[size-1]))
	if s.plan.Spec.State == cache.Moment {
		return &cache.State{Absorbed: last, KeyMean: x[:dim], ValueMean: x[dim : 2*dim], Covariance: x[2*dim : size-1]}
	}
	sums := (size - 1) / (dim + 1) * dim
	return &cache.State{Clock: last, H: x[:sums], Z: x[sums : size-1]}
}

// join adds the state of a memory to that of a KV head.
func (s *cudaSequence) join(layer, head int, h *passages.Head, by int) {
	c, i := s.backend, layer*s.backend.heads.KVHeads+head
	state := s.state(i)
	if state == nil || c.failed != nil {
		return
	}
	joinState(state, h, by, c.frequencies, func(s *cache.State, clock int) {
		wind(c.source.Layers[layer].Rates(head), s, clock)
	})
	last := state.Clock
	if s.plan.Spec.State == cache.Moment {
		last = state.Absorbed
	}
	x := append(slices.Concat(state.H, state.Z, state.KeyMean, state.ValueMean, state.Covariance), math.Float32frombits(uint32(last)))
	at := s.stateAt(i)
	c.check(c.stream.Upload(device.Pointer(4*(s.table+int64(at))), cuda.Bytes(x)))
	c.check(c.stream.Upload(device.Pointer(4*(s.table+2*int64(i))), cuda.Bytes([]int32{int32(at)}))) // StateEntry.Further
}
