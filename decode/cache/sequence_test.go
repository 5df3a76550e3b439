package cache

import (
	"fmt"
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
	absorbed []map[int32]int     // [layers·kvHeads] position → times
	seen     []int32             // what the last block's first token attended to, in layer 0, head 0
	most     int64               // bytes held at most
	given    []map[int32]float32 // [layers·kvHeads] position → attention that the policy should know of
}

func newFeeder(t *testing.T, spec Spec, budget Budget, shape Shape) *feeder {
	t.Helper()
	p, err := NewPlan(spec, budget, shape)
	if err != nil {
		t.Fatal(err)
	}
	f := &feeder{t: t, absorbed: make([]map[int32]int, len(p.Slots)), given: make([]map[int32]float32, len(p.Slots))}
	for i := range f.absorbed {
		f.absorbed[i], f.given[i] = map[int32]int{}, map[int32]float32{}
	}
	f.s, err = NewSequence(p, Handlers{Absorb: func(_ *State, layer, head int, k, v, _ []uint16, positions []int32) {
		for i, position := range positions {
			f.absorbed[layer*shape.KVHeads+head][position]++
			f.check(layer, head, position, k[i*shape.HeadDim:][:shape.HeadDim], v[i*shape.HeadDim:][:shape.HeadDim])
		}
	}, Turn: func(dst, k []uint16, _ int) { copy(dst, k) }}, &Scratch{})
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
			f.observe(layer, n, n)
		} else {
			f.s.Insert(layer, k, v, f.observe(layer, n, 0))
		}
		f.most = max(f.most, f.s.Held().Bytes)
	}
	f.s.Advance(n)
	f.verify()
}

// observe gives a block's attention to a layer, of whose n tokens stored ones are
// held already, and returns that over the others.
func (f *feeder) observe(layer, n, stored int) []float32 {
	first, _ := f.s.Observed(n, n)
	if first == n {
		return nil
	}
	shape := f.s.plan.Shape
	own := make([]float32, shape.KVHeads*shape.Group*n)
	for head := range shape.KVHeads {
		i := layer*shape.KVHeads + head
		held := f.s.Positions(layer, head)
		positions := slices.Clone(held)
		for at := stored; at < n; at++ {
			positions = append(positions, int32(f.s.Position()+at))
		}
		columns := make([]float32, shape.Group*len(held))
		if f.s.policy.Observes().Rows == NewestRow {
			clear(f.given[i])
		}
		for g := range shape.Group {
			for j, position := range positions {
				p := float32((int(position)*7+f.s.Position()*3+g+head+layer)%11) / 16 // sums are exact
				f.given[i][position] += p
				if j < len(held) {
					columns[g*len(held)+j] = p
				} else {
					own[(head*shape.Group+g)*n+j-len(held)] = p
				}
			}
		}
		half := len(held) / 2 // in two pieces
		for _, piece := range [][2]int{{half, len(held)}, {0, half}} {
			var part []float32
			for g := range shape.Group {
				part = append(part, columns[g*len(held)+piece[0]:g*len(held)+piece[1]]...)
			}
			f.s.Observe(layer, head, piece[0], part)
		}
	}
	return own
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
				if h := f.s.head(layer, head); f.s.width > 0 && f.s.policy.Observes().Reduce == Sum && h.attention[i] != f.given[layer*shape.KVHeads+head][position] {
					f.t.Fatalf("layer %d, head %d, position %d: attention %v, given %v", layer, head, position,
						h.attention[i], f.given[layer*shape.KVHeads+head][position])
				}
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
	for _, test := range []struct {
		policy            string
		interval, largest int
	}{
		{Sinks, 1, 1}, {Sinks, 2, 3}, {Sinks, 7, 50}, {Sinks, 40, 1}, {Streaming, 1, 1}, {Streaming, 7, 3}, {Streaming, 2, 50},
		{H2O, 1, 1}, {H2O, 7, 3}, {H2O, 2, 50}, {H2O, 40, 50}, {TOVA, 1, 1}, {TOVA, 7, 3}, {TOVA, 2, 50}, {TOVA, 40, 50},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			interval, largest := test.interval, test.largest
			shape := Shape{Layers: 2, KVHeads: 2, HeadDim: 4, Context: 1000, Interval: interval, Group: 3, Ranks: []int{2, 0, 1, 3}}
			f := newFeeder(t, Spec{Policy: test.policy, State: Less}, Budget{Tokens: 20}, shape)
			for f.s.Position() < 3*20+interval+60 {
				f.feed(1 + random.IntN(largest))
				if held := f.s.Held(); f.s.Position() >= 20 && held.Kept < 20 {
					t.Fatalf("holds %d tokens of a budget of 20", held.Kept)
				}
			}
			if f.most > f.s.Plan().Bytes {
				t.Errorf("held %d bytes of %d", f.most, f.s.Plan().Bytes)
			}
			held := f.s.Held()
			if held.Evicted != f.s.Position()-held.Kept || held.Absorbed != held.Evicted*3/4 {
				t.Errorf("held %+v of %d tokens: of four KV heads, three have a state", held, f.s.Position())
			}
			if positions := f.s.Positions(1, 1); test.policy == Sinks || test.policy == Streaming {
				if !slices.Equal(positions[:SinkTokens], []int32{0, 1, 2, 3}) || int(positions[len(positions)-1]) != f.s.Position()-1 {
					t.Errorf("sinks or the newest token are missing: %v", positions)
				}
			}
		})
	}
}

// What a sequence takes from the system is its Plan's bytes, to the last one, of
// which every number that it keeps has its own.
func TestMemoryIsThePlans(t *testing.T) {
	shape := Shape{Layers: 3, KVHeads: 5, HeadDim: 20, Context: 500, Interval: 9, Group: 3, Parts: 2, Ranks: make([]int, 15)}
	for i := range shape.Ranks {
		shape.Ranks[i] = i % 4
	}
	var plans []Plan
	for _, policy := range []string{Sinks, Streaming, H2O, TOVA, SnapKV, Vote} {
		for _, state := range []string{"", Less, Moment} {
			for _, budget := range []Budget{{Tokens: 77}, {Bytes: 200_000}} {
				p, err := NewPlan(Spec{Policy: policy, State: state}, budget, shape)
				if err != nil {
					t.Fatal(err)
				}
				if one := p.tokenBytes(); budget.Bytes != 0 && (p.Bytes > budget.Bytes || p.Bytes+one <= budget.Bytes) {
					t.Errorf("%s: %d bytes planned of %d, a token takes %d", p.Spec, p.Bytes, budget.Bytes, one)
				}
				plans = append(plans, p)
			}
		}
	}
	full, err := NewPlan(Spec{Policy: Full}, Budget{Tokens: 77}, shape)
	if err != nil {
		t.Fatal(err)
	}
	plans = append(plans, full)
	for _, spec := range []Spec{{Policy: SnapKV, State: Less}, {Policy: Vote}} {
		p, err := NewStaging(spec, 123, shape)
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, p)
	}
	keeps := make([]int, 15)
	for i := range keeps {
		keeps[i] = 40 + 3*i
	}
	divided, err := plans[len(plans)-4].Divide(keeps)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(plans, divided) {
		s, err := NewSequence(p, Handlers{}, &Scratch{})
		if err != nil {
			t.Fatal(err)
		}
		var used int64
		for i, h := range s.heads {
			used += int64(2*cap(h.k) + 2*cap(h.v) + 2*cap(h.sinks) + 4*cap(h.positions) + 4*cap(h.attention))
			for _, part := range s.states[i].parts() {
				used += int64(4 * cap(part))
			}
			if uintptr(unsafe.Pointer(&h.positions[0]))%4 != 0 {
				t.Error("positions are not aligned")
			}
		}
		if used != p.Bytes || int64(len(s.memory.bytes)) != p.Bytes || int64(s.memory.used) != p.Bytes {
			t.Errorf("%s: numbers of %d bytes in %d taken, planned %d", p.Spec, used, len(s.memory.bytes), p.Bytes)
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
