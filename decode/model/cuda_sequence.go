package model

import (
	"fmt"
	"slices"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// cudaCaches are what a card holds.
var cudaCaches = []string{"full", "sinks", "sinks+less", "streaming", "streaming+less", "h2o", "h2o+less", "tova", "tova+less"}

// cudaSequence is the cache of one running sequence on a device. Every KV head holds as many
// tokens as every other, though not the same ones where the policy watches attention.
type cudaSequence struct {
	backend *CUDA
	of      int // the backend's generation
	plan    cache.Plan
	books   *books
	memory  device.Pointer // as it was taken
	place   cuda.Place     // of keys and values [layers, kvHeads, slots, headDim] bf16
	sinks   cuda.Place     // of exact copies of the sinks' keys [layers, kvHeads, 4, headDim], where they are numbered anew
	table   int64          // in numbers of f32 from 0: the StateEntries [layers, kvHeads], and then the states; 0: there are none
	sums    int64          // likewise: what slots got of attention [layers, kvHeads, slots]; 0: nobody asks

	position int    // of the next token
	room     int    // slots of a KV head
	held     int    // of them
	evicted  int    // tokens of every KV head
	known    int    // so many first slots have sums
	copied   bool   // there are exact copies of the sinks
	begun    []bool // [layers], one alone where all hold the same: states have absorbed something
	asked    int    // positions before this one ask the states
	states   int    // KV heads that have one
}

// NewSequence takes the Plan's memory on the device.
func (c *CUDA) NewSequence(p cache.Plan) (Sequence, error) {
	if !slices.Contains(cudaCaches, p.Spec.String()) || p.Staging || slices.Min(p.Slots) != slices.Max(p.Slots) {
		return nil, fmt.Errorf("model: cache %s is not held on a card yet", p.Spec)
	}
	if c.gone != nil {
		return nil, c.gone
	}
	kept, err := newBooks(p)
	if err != nil {
		return nil, err
	}
	s := &cudaSequence{backend: c, of: c.generation, plan: p, books: kept, room: p.Slots[0], begun: make([]bool, kept.Plan().Shape.Layers)}
	if err := s.take(); err != nil {
		kept.Free()
		return nil, fmt.Errorf("take memory for a sequence with cache %s: %w", p.Spec, err)
	}
	return s, nil
}

// take lays the sequence out: all of it is its Plan's.
func (s *cudaSequence) take() error {
	c, dim := s.backend, int64(s.backend.heads.Dim)
	heads, layerHeads := int64(len(s.plan.Slots)), int64(c.heads.KVHeads)
	slots, sinks := heads*int64(s.room), int64(0)
	if s.plan.Spec.Policy == cache.Streaming {
		sinks = cache.SinkTokens
	}
	rows := 2*slots + heads*sinks // of headDim numbers in bf16
	floats := rows * dim / 2
	var entries []cuda.StateEntry
	table, sums := floats, floats
	if s.plan.Spec.State == cache.Less {
		entries = s.entries()
		sums += 2*heads + int64(s.stateFloats())
	}
	floats = sums
	if s.plan.Watches() {
		floats += slots
	}
	var err error
	if s.memory, err = c.device.Alloc(4*floats + rowSlack(c.heads.Dim)); err != nil {
		return err
	}
	base := rowAligned(s.memory, c.heads.Dim)
	first := int64(base) / (2 * dim)
	s.place = cuda.Place{Key: first, Value: first + slots, Layer: layerHeads * int64(s.room), Head: int64(s.room)}
	s.sinks = cuda.Place{Key: first + 2*slots, Layer: layerHeads * sinks, Head: sinks}
	s.table, s.sums = int64(base)/4+table, int64(base)/4+sums
	if err := c.stream.Upload(device.Pointer(4*s.table), cuda.Bytes(entries)); err != nil {
		c.device.Free(s.memory)
		return err
	}
	return nil
}

// rowSlack is how much memory that holds rows of dim numbers in bf16 takes more, for rowAligned: a device's begins at a
// multiple of 256 bytes.
func rowSlack(dim int) int64 { return int64(max(0, 2*dim-256)) }

// rowAligned is the first row in memory.
func rowAligned(p device.Pointer, dim int) device.Pointer {
	row := device.Pointer(2 * dim)
	return (p + row - 1) / row * row
}

// entries are where the states lie, behind the table, and how much they count.
func (s *cudaSequence) entries() []cuda.StateEntry {
	gate := s.backend.maps.source.GateOf(s.plan.Spec.Policy)
	s.asked = min(gate.Validated, s.plan.Shape.Context)
	further := 2 * len(s.plan.Slots)
	var entries []cuda.StateEntry
	for i, rank := range s.plan.Shape.Ranks {
		e := cuda.StateEntry{Further: -1}
		if rank > 0 {
			kvHeads := s.plan.Shape.KVHeads
			e = cuda.StateEntry{Further: int32(further), Gate: gate.LogScale[i/kvHeads][i%kvHeads]}
			further += cuda.StateFloats(rank, s.plan.Shape.HeadDim)
			s.states++
		}
		entries = append(entries, e)
	}
	return entries
}

// stateFloats is how many numbers all states have.
func (s *cudaSequence) stateFloats() int {
	n := 0
	for _, rank := range s.plan.Shape.Ranks {
		if rank > 0 {
			n += cuda.StateFloats(rank, s.plan.Shape.HeadDim)
		}
	}
	return n
}

func (s *cudaSequence) Position() int    { return s.position }
func (s *cudaSequence) Plan() cache.Plan { return s.plan }

// Held tells what the sequence holds now.
func (s *cudaSequence) Held() cache.Held {
	return cache.Held{Bytes: s.plan.HeldBytes(s.held), Kept: s.held, Evicted: s.evicted, Absorbed: s.evicted * s.states / len(s.plan.Slots)}
}

// Free gives the memory back.
func (s *cudaSequence) Free() error {
	s.books.Free()
	if s.of != s.backend.generation {
		return nil // the device has forgotten it
	}
	return s.backend.device.Free(s.memory)
}

// watched tells whether the policy decides by attention, layer by layer while a pass runs.
func (s *cudaSequence) watched() bool { return s.plan.Watches() }

// asks tells whether the row of a position asks the states.
func (s *cudaSequence) asks(position int) bool {
	return s.states > 0 && s.evicted > 0 && position < s.asked
}
