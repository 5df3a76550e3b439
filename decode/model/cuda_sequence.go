package model

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// cudaSequence is the cache of one running sequence on a device. Who decides which tokens stay depends on the policy:
// positions alone, the same for all KV heads; attention, of every KV head as many, or, if it is late, as many as attention
// decides; or a question, once and for all, of every KV head as many as it was given.
type cudaSequence struct {
	backend *CUDA
	of      int // the backend's generation
	plan    cache.Plan
	books   *books
	pace    *cache.Sequence // tells how many tokens every KV head holds, before policies have decided; nil where each
	memory  device.Pointer  // as it was taken
	place   cuda.Place      // of keys and values [layers, kvHeads, slots, headDim] bf16
	begin   []int64         // [layers·kvHeads] slots before those of a KV head; nil: all have as many
	sinks   cuda.Place      // of exact copies of the sinks' keys [layers, kvHeads, 4, headDim], where they are numbered anew
	table   int64           // in numbers of f32 from 0: the StateEntries [layers, kvHeads], and then the states
	sums    int64           // likewise: what slots got of attention [layers, kvHeads, slots, width]
	groups  int64           // the address of a table [layers·kvHeads] i64 of addresses: where packed groups of KV heads begin; 0: there are none
	groupAt []int64         // the table

	channels [][]uint16 // [layers·kvHeads] that packed keys keep, where they lose some; nil: they are not chosen yet
	squares  int64      // as sums: mean squares of the last queries [layers, kvHeads, headDim]

	packedSums int64 // as sums, of packed tokens [layers, kvHeads, groups, 32]

	position int    // of the next token
	room     int    // slots of the smallest KV head
	each     bool   // KV heads hold numbers of tokens of their own: it is a staging sequence, or a choice was made
	late     bool   // they do, and how many is not known before a layer has decided
	known    int    // so many first slots have sums
	seen     int    // of a staging sequence: the tokens before this position have sums; below 0, none do
	gave     bool   // tokens have left
	copied   []bool // [layers] of the books: there are exact copies of the sinks
	asked    int    // positions before this one ask the states
	states   int    // KV heads that have one
}

// never is cudaSequence.seen where nothing was.
const never = -1

// NewSequence takes the Plan's memory on the device.
func (c *CUDA) NewSequence(p cache.Plan) (Sequence, error) {
	even := slices.Min(p.Slots) == slices.Max(p.Slots)
	if !even && !p.Spec.AsksQuestion() {
		return nil, fmt.Errorf("model: cache %s is not held on a card yet", p.Spec)
	}
	if c.gone != nil {
		return nil, c.gone
	}
	kept, err := newBooks(p, p.Ledger())
	if err != nil {
		return nil, err
	}
	pace := kept.Sequence
	if p.Watches() && p.Foretold() && !p.Staging {
		pace, err = cache.NewSequence(p.Pace(), cache.Handlers{Turn: func(_, _ []uint16, _ int) {}}, &cache.Scratch{})
		if err != nil {
			kept.Free()
			return nil, err
		}
	}
	return c.newSequence(p, kept, pace)
}

func (c *CUDA) newSequence(p cache.Plan, kept *books, pace *cache.Sequence) (*cudaSequence, error) {
	s := &cudaSequence{backend: c, of: c.generation, plan: p, books: kept, pace: pace, room: leastLoose(p),
		each: p.Staging || p.Spec.Stages() && !p.Watches(), late: !p.Foretold() && !p.Staging, seen: never, copied: make([]bool, kept.layers())}
	if err := s.take(); err != nil {
		s.freeBooks()
		return nil, fmt.Errorf("take memory for a sequence with cache %s: %w", p.Spec, err)
	}
	return s, nil
}

func (s *cudaSequence) freeBooks() {
	if s.pace != s.books.Sequence {
		s.pace.Free()
	}
	s.books.Free()
}

// leastLoose is how many slots in 16 bits the smallest KV head has.
func leastLoose(p cache.Plan) int {
	least := p.Loose(0)
	for i := range p.Slots {
		least = min(least, p.Loose(i))
	}
	return least
}

// take lays the sequence out: all of it is its Plan's.
func (s *cudaSequence) take() error {
	c, dim := s.backend, int64(s.backend.heads.Dim)
	heads, layerHeads := int64(len(s.plan.Slots)), int64(c.heads.KVHeads)
	slots, sinks := int64(0), int64(0)
	var begin []int64
	for i := range s.plan.Slots {
		begin = append(begin, slots)
		slots += int64(s.plan.Loose(i))
	}
	if s.plan.Spec.Unlimited() { // what is kept is numbered anew
		sinks = cache.SinkTokens
	}
	rows := 2*slots + heads*sinks // of headDim numbers in bf16
	starts := rows * dim / 2
	table := starts
	if uneven := slots != heads*int64(s.room); uneven {
		s.begin = begin
		table += 2 * heads
	}
	addresses := (table + 3) &^ 3 // and then the groups
	packed := int64(0)
	bytes := heads * s.headBytes()
	for i, n := range s.plan.Groups {
		if n > 0 {
			packed += int64(n)
			bytes += int64(n) * s.groupBytes(i)
		}
	}
	if packed > 0 {
		table = addresses + (2*heads+3)&^3 + bytes/4
	}
	sums := table
	if s.plan.Spec.State != "" {
		s.states, s.asked = s.gate()
		sums += s.stateFloats()
	}
	floats := sums + (slots+packed*cache.GroupTokens)*int64(s.plan.Width())
	squares := floats
	if s.prunes() {
		floats += heads * dim
	}
	var err error
	if s.memory, err = c.device.Alloc(4*floats + rowSlack(c.heads.Dim)); err != nil {
		return err
	}
	base := rowAligned(s.memory, c.heads.Dim)
	first := int64(base) / (2 * dim)
	s.place = cuda.Place{Key: first, Value: first + slots, Layer: layerHeads * int64(s.room), Head: int64(s.room)}
	s.sinks = cuda.Place{Key: first + 2*slots, Layer: layerHeads * sinks, Head: sinks}
	s.table, s.sums, s.squares = int64(base)/4+table, int64(base)/4+sums, int64(base)/4+squares
	s.packedSums = s.sums + slots*int64(s.plan.Width())
	if packed > 0 {
		err = s.takeGroups(int64(base)+4*addresses, heads)
	}
	if s.begin != nil {
		s.place.Layer, s.place.Head = cuda.Uneven, int64(base)+4*starts
		err = errors.Join(err, c.stream.Upload(device.Pointer(s.place.Head), cuda.Bytes(s.begin)))
	}
	if err = errors.Join(err, s.forget(), s.forgetQueries()); err != nil {
		c.device.Free(s.memory)
	}
	return err
}

// takeGroups tells the card where groups begin: behind the table of it.
func (s *cudaSequence) takeGroups(at, heads int64) error {
	s.groups = at
	next := at + (8*heads+15)&^15
	var err error
	for i, n := range s.plan.Groups {
		if s.prunes() {
			header := s.pruned(i).Header(s.plan.Shape.HeadDim)
			err = errors.Join(err, s.backend.stream.Upload(device.Pointer(next), cuda.Bytes([][4]int32{header})))
		}
		next += s.headBytes()
		s.groupAt = append(s.groupAt, next)
		next += int64(n) * s.groupBytes(i)
	}
	return errors.Join(err, s.backend.stream.Upload(device.Pointer(at), cuda.Bytes(s.groupAt)))
}

// placeOf is where keys and values of a KV head lie; where all have the same room, in any layer.
func (s *cudaSequence) placeOf(layer, head int) cuda.Place {
	if s.begin == nil {
		return s.place.OfHead(head)
	}
	begin := s.begin[layer*s.backend.heads.KVHeads+head]
	return cuda.Place{Key: s.place.Key + begin, Value: s.place.Value + begin}
}

// rowSlack is how much memory that holds rows of dim numbers in bf16 takes more, for rowAligned: a device's begins at a
// multiple of 256 bytes.
func rowSlack(dim int) int64 { return int64(max(0, 2*dim-256)) }

// rowAligned is the first row in memory.
func rowAligned(p device.Pointer, dim int) device.Pointer {
	row := device.Pointer(2 * dim)
	return (p + row - 1) / row * row
}

// gate tells how many KV heads have a state, and up to which position they are asked.
func (s *cudaSequence) gate() (states, asked int) {
	for i := range s.plan.Slots {
		if s.stateSize(i) > 0 {
			states++
		}
	}
	if s.plan.Spec.State == cache.Moment {
		return states, math.MaxInt
	}
	return states, min(s.backend.source.GateOf(s.plan.Spec.Policy).Validated, s.plan.Shape.Context)
}

// forget writes the table of states anew: none has absorbed anything.
func (s *cudaSequence) forget() error {
	if s.plan.Spec.State == "" {
		return nil
	}
	kvHeads, further := s.plan.Shape.KVHeads, 2*len(s.plan.Slots)
	var entries []cuda.StateEntry
	for i := range s.plan.Slots {
		e := cuda.StateEntry{Further: cuda.NoState}
		if size := s.stateSize(i); size > 0 {
			e.Further = cuda.Untouched(further)
			further += size
		}
		if s.plan.Spec.State == cache.Less {
			e.Gate = s.backend.source.GateOf(s.plan.Spec.Policy).LogScale[i/kvHeads][i%kvHeads]
		}
		entries = append(entries, e)
	}
	return s.backend.stream.Upload(device.Pointer(4*s.table), cuda.Bytes(entries))
}

// stateFloats is how many numbers the table and all states have.
func (s *cudaSequence) stateFloats() int64 {
	n := 2 * len(s.plan.Slots)
	for i := range s.plan.Slots {
		n += s.stateSize(i)
	}
	return int64(n)
}

// stateSize is how many numbers the state of a KV head has; 0: it has none.
func (s *cudaSequence) stateSize(i int) int {
	switch {
	case s.plan.Spec.State == cache.Moment:
		return cuda.MomentFloats(s.plan.Shape.HeadDim)
	case s.plan.Spec.State == cache.Less && s.plan.Shape.Ranks[i] > 0:
		return cuda.StateFloats(s.plan.Shape.Ranks[i], s.plan.Shape.HeadDim)
	}
	return 0
}

func (s *cudaSequence) Position() int    { return s.position }
func (s *cudaSequence) Plan() cache.Plan { return s.plan }

// Held tells what the sequence holds now.
func (s *cudaSequence) Held() cache.Held { return s.books.HeldOf(s.plan) }

// holds is how many tokens a KV head holds in 16 bits.
func (s *cudaSequence) holds(layer, head int) int {
	if s.each || s.late {
		return s.books.Loose(layer, head)
	}
	return s.pace.Loose(0, 0)
}

// Free gives the memory back.
func (s *cudaSequence) Free() error {
	s.freeBooks()
	if s.of != s.backend.generation {
		return nil // the device has forgotten it
	}
	return s.backend.device.Free(s.memory)
}

// watched tells whether the policy decides by attention, in every layer.
func (s *cudaSequence) watched() bool { return s.plan.Watches() && !s.each }

// asks tells whether the row of a position asks the states.
func (s *cudaSequence) asks(position int) bool {
	return s.states > 0 && s.gave && position < s.asked
}
