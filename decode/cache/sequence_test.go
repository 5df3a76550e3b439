package cache

import (
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// feeder drives a sequence as a backend does, with keys and values that tell
// which token they belong to, and remembers what was handed over.
type feeder struct {
	t        *testing.T
	s        *Sequence
	absorbed []map[int32]int // [layers·kvHeads] position → times
	seen     []int32         // what the last block's first token attended to, in layer 0, head 0
	most     int64           // bytes held at most
}

func newFeeder(t *testing.T, spec Spec, budget Budget, shape Shape) *feeder {
	t.Helper()
	p, err := NewPlan(spec, budget, shape)
	if err != nil {
		t.Fatal(err)
	}
	f := &feeder{t: t, absorbed: make([]map[int32]int, len(p.Slots))}
	for i := range f.absorbed {
		f.absorbed[i] = map[int32]int{}
	}
	f.s, err = NewSequence(p, Handlers{Absorb: func(_ *State, layer, head int, k, v []uint16, positions []int32) {
		for i, position := range positions {
			f.absorbed[layer*shape.KVHeads+head][position]++
			f.check(layer, head, position, k[i*shape.HeadDim:][:shape.HeadDim], v[i*shape.HeadDim:][:shape.HeadDim])
		}
	}}, &Scratch{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.s.Free(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// mark is the content of a key; its value is the complement.
func mark(layer, head int, position int32, channel int) uint16 {
	return uint16(position)*31 + uint16(layer*7+head*3+channel)
}

func (f *feeder) check(layer, head int, position int32, k, v []uint16) {
	for c := range k {
		if want := mark(layer, head, position, c); k[c] != want || v[c] != ^want {
			f.t.Fatalf("layer %d, head %d, position %d: key or value of another token", layer, head, position)
		}
	}
}

func (f *feeder) feed(n int) {
	shape := f.s.plan.Shape
	for layer := range shape.Layers {
		var k, v []uint16
		for head := range shape.KVHeads {
			for i := range n {
				for c := range shape.HeadDim {
					m := mark(layer, head, int32(f.s.Position()+i), c)
					k, v = append(k, m), append(v, ^m)
				}
			}
		}
		f.s.MakeRoom(layer, n)
		if layer == 0 {
			f.seen = append(slices.Clone(f.s.Positions(0, 0)), int32(f.s.Position()))
		}
		if f.s.Fits(layer, n) {
			for head := range shape.KVHeads {
				at := head * n * shape.HeadDim
				f.s.Append(layer, head, k[at:at+n*shape.HeadDim], v[at:at+n*shape.HeadDim])
			}
		} else {
			f.s.Insert(layer, k, v, nil)
		}
		f.most = max(f.most, f.s.Held().Bytes)
	}
	f.s.Advance(n)
	f.verify()
}

// verify checks that every token is held or was handed over, once.
func (f *feeder) verify() {
	shape := f.s.plan.Shape
	for layer := range shape.Layers {
		for head := range shape.KVHeads {
			absorbed := f.absorbed[layer*shape.KVHeads+head]
			positions := f.s.Positions(layer, head)
			k, v := f.s.Segment(layer, head)
			for i, position := range positions {
				if i > 0 && position <= positions[i-1] {
					f.t.Fatalf("positions do not rise: %v", positions)
				}
				if absorbed[position] != 0 {
					f.t.Fatalf("position %d is held and was handed over", position)
				}
				f.check(layer, head, position, k[i*shape.HeadDim:][:shape.HeadDim], v[i*shape.HeadDim:][:shape.HeadDim])
			}
			for position, times := range absorbed {
				if times != 1 {
					f.t.Fatalf("position %d was handed over %d times", position, times)
				}
			}
			if len(positions)+len(absorbed) != f.s.Position() {
				f.t.Fatalf("%d held and %d handed over of %d tokens", len(positions), len(absorbed), f.s.Position())
			}
		}
	}
}

// lambda is what the token at a position attends to: four sinks, the budget's
// other tokens before it, and itself.
func lambda(position, budget int) []int32 {
	var seen []int32
	for p := range position + 1 {
		if p < SinkTokens || p >= position-(budget-SinkTokens) {
			seen = append(seen, int32(p))
		}
	}
	return seen
}

// With interval 1, token by token, every token sees exactly what the paper says.
func TestSinksTokenByToken(t *testing.T) {
	for _, budget := range []int{5, 8, 33} {
		f := newFeeder(t, Spec{Policy: Sinks}, Budget{Tokens: budget}, Shape{Layers: 2, KVHeads: 3, HeadDim: 5, Context: 400, Interval: 1})
		for position := range 3*budget + 7 {
			f.feed(1)
			if want := lambda(position, budget); !slices.Equal(f.seen, want) {
				t.Fatalf("budget %d: position %d sees %v, want %v", budget, position, f.seen, want)
			}
		}
	}
}

// Whatever the blocks and the interval, a sequence far beyond its budget holds
// all of it, never a byte more than planned, and hands every other token over once.
func TestMemoryContract(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, interval := range []int{1, 2, 7, 40} {
		for _, largest := range []int{1, 3, 50} {
			shape := Shape{Layers: 2, KVHeads: 2, HeadDim: 3, Context: 1000, Interval: interval}
			f := newFeeder(t, Spec{Policy: Sinks}, Budget{Tokens: 20}, shape)
			for f.s.Position() < 3*20+interval+60 {
				f.feed(1 + random.IntN(largest))
				if held := f.s.Held(); f.s.Position() >= 20 && held.Kept < 20 {
					t.Fatalf("holds %d tokens of a budget of 20", held.Kept)
				}
			}
			if f.most > f.s.Plan().Bytes {
				t.Errorf("interval %d, blocks to %d: held %d bytes of %d", interval, largest, f.most, f.s.Plan().Bytes)
			}
			positions := f.s.Positions(1, 1)
			if !slices.Equal(positions[:SinkTokens], []int32{0, 1, 2, 3}) || int(positions[len(positions)-1]) != f.s.Position()-1 {
				t.Errorf("sinks or the newest token are missing: %v", positions)
			}
		}
	}
}

// What a sequence takes from the system is its Plan's bytes, to the last one.
func TestMemoryIsThePlans(t *testing.T) {
	for _, spec := range []Spec{{Policy: Full}, {Policy: Sinks}} {
		p, err := NewPlan(spec, Budget{Tokens: 77}, Shape{Layers: 3, KVHeads: 5, HeadDim: 20, Context: 500, Interval: 9})
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSequence(p, Handlers{}, &Scratch{})
		if err != nil {
			t.Fatal(err)
		}
		var used int64
		for _, h := range s.heads {
			used += int64(2*cap(h.k) + 2*cap(h.v) + 4*cap(h.positions))
			if uintptr(unsafe.Pointer(&h.positions[0]))%4 != 0 {
				t.Error("positions are not aligned")
			}
		}
		if used != p.Bytes || int64(len(s.memory.bytes)) != p.Bytes || int64(s.memory.used) != p.Bytes {
			t.Errorf("%s: slots of %d bytes in %d taken, planned %d", spec, used, len(s.memory.bytes), p.Bytes)
		}
		if err := s.Free(); err != nil {
			t.Error(err)
		}
		if s.memory.bytes != nil {
			t.Error("memory is still there after Free")
		}
	}
}

// A running sequence takes nothing from the allocator.
func TestRunningAllocatesNothing(t *testing.T) {
	f := newFeeder(t, Spec{Policy: Sinks}, Budget{Tokens: 12}, Shape{Layers: 1, KVHeads: 2, HeadDim: 4, Context: 500, Interval: 3})
	var token [4]uint16
	for f.s.Position() < 40 {
		f.feed(1)
	}
	f.s.handlers.Absorb = nil
	if allocated := testing.AllocsPerRun(50, func() {
		f.s.MakeRoom(0, 1)
		f.s.Append(0, 0, token[:], token[:])
		f.s.Append(0, 1, token[:], token[:])
		f.s.Advance(1)
	}); allocated != 0 {
		t.Errorf("%v allocations for a token", allocated)
	}
}

// A full cache evicts nothing and is never fed beyond its slots.
func TestFullIsNeverExceeded(t *testing.T) {
	f := newFeeder(t, Spec{}, Budget{Tokens: 30}, Shape{Layers: 1, KVHeads: 1, HeadDim: 2, Context: 64})
	f.feed(29)
	f.feed(1)
	if held := f.s.Held(); held.Kept != 30 || held.Evicted != 0 {
		t.Errorf("held %+v", held)
	}
	defer func() {
		if recover() == nil {
			t.Error("a token beyond the slots was taken")
		}
	}()
	f.feed(1)
}

// A budget of the whole context is a full cache, in whatever blocks.
func TestBudgetOfContextEvictsNothing(t *testing.T) {
	f := newFeeder(t, Spec{Policy: Sinks}, Budget{Percent: 100}, Shape{Layers: 2, KVHeads: 1, HeadDim: 2, Context: 64, Interval: 5})
	for f.s.Position() < 64 {
		f.feed(min(13, 64-f.s.Position()))
	}
	if held := f.s.Held(); held.Kept != 64 || held.Evicted != 0 {
		t.Errorf("held %+v", held)
	}
}
