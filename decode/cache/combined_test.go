package cache

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// combined feeds a sequence with keys and values of chance, a vector for each token, and
// remembers how often each was handed over.
type combined struct {
	t        *testing.T
	s        *Sequence
	absorbed []map[int32]int // [layers·kvHeads]
	merges   bool            // keys and values are not what they were
}

var combinedShape = Shape{Layers: 2, KVHeads: 2, HeadDim: 16, Context: 4000, Interval: 5, Group: 3, Ranks: []int{2, 0, 1, 3}}

func newCombined(t *testing.T, spec Spec, budget Budget) *combined {
	t.Helper()
	p, err := NewPlan(spec, budget, combinedShape)
	if err != nil {
		t.Fatal(err)
	}
	return combinedOf(t, p)
}

func combinedOf(t *testing.T, p Plan) *combined {
	t.Helper()
	f := &combined{t: t, merges: p.Spec.Policy == Elastic || p.Spec.Policy == ElasticValues}
	for range p.Slots {
		f.absorbed = append(f.absorbed, map[int32]int{})
	}
	s, err := NewSequence(p, Handlers{
		Turn: func(dst, k []uint16, _ int) { copy(dst, k) },
		Features: func(layer, head int, keys []float32, positions []int32, psi []float32) {
			rank := p.Shape.Ranks[layer*p.Shape.KVHeads+head]
			for i, position := range positions {
				near(t, fmt.Sprintf("%s: a key whose ψ is wanted, of %d", p.Spec, position), keys[i*p.Shape.HeadDim:(i+1)*p.Shape.HeadDim], f.vector(layer, head, position, 0), 0)
				for r := range rank {
					psi[i*rank+r] = float32(position%128 + int32(r))
				}
			}
		},
		Absorb: func(state *State, layer, head int, k, v, psi []uint16, positions []int32) {
			i := layer*p.Shape.KVHeads + head
			rank := p.Shape.Ranks[i]
			for j, position := range positions {
				f.absorbed[i][position]++
				from, to := j*p.Shape.HeadDim, (j+1)*p.Shape.HeadDim
				f.check(layer, head, position, wide(k[from:to]), wide(v[from:to]))
				for r := range rank {
					if want := float32(position%128 + int32(r)); psi != nil && wide(psi)[j*rank+r] != want {
						t.Fatalf("%s: ψ of token %d is %v, want %v", p.Spec, position, wide(psi)[j*rank+r], want)
					}
				}
			}
		},
	}, &Scratch{})
	if err != nil {
		t.Fatal(err)
	}
	f.s = s
	t.Cleanup(func() { f.s.Free() })
	return f
}

func wide(x []uint16) []float32 {
	out := make([]float32, len(x))
	for i, h := range x {
		out[i] = math.Float32frombits(uint32(h) << 16)
	}
	return out
}

// narrow cuts numbers that bf16 holds.
func narrow(x []float32) []uint16 {
	out := make([]uint16, len(x))
	for i, f := range x {
		out[i] = uint16(math.Float32bits(f) >> 16)
	}
	return out
}

// vector is the key (0) or value (1) of a token, of numbers that bf16 holds.
func (f *combined) vector(layer, head int, position int32, which uint64) []float32 {
	random := rand.New(rand.NewPCG(uint64(position), uint64(layer*8+head*2)+which))
	out := make([]float32, f.s.plan.Shape.HeadDim)
	for i := range out {
		out[i] = math.Float32frombits(math.Float32bits(float32(random.NormFloat64())) &^ 0xffff)
	}
	return out
}

// near tells whether got is want but for a share of its squares, which are about 1 each.
func near(t *testing.T, name string, got, want []float32, share float64) {
	t.Helper()
	var lost, all float64
	for i, x := range want {
		lost += float64((got[i] - x) * (got[i] - x))
		all += float64(x * x)
	}
	if !(lost <= share*(all+float64(len(want)))) {
		t.Fatalf("%s: %v, want %v", name, got, want)
	}
}

// check compares a token that is held or handed over with what was fed. What is packed
// has lost something, and never so much that it could be another token's.
func (f *combined) check(layer, head int, position int32, k, v []float32) {
	share, name := 0.0, fmt.Sprintf("%s: layer %d, head %d, token %d", f.s.plan.Spec, layer, head, position)
	switch f.s.plan.Spec.Bits {
	case 4:
		share = 0.04
	case 2:
		share = 0.4
	}
	key := f.vector(layer, head, position, 0)
	if f.s.plan.Spec.Think > 0 {
		for c, x := range k {
			if x == 0 { // pruned, or quantised to it
				key[c] = 0
			}
		}
	}
	if !f.merges {
		near(f.t, name+": key", k, key, share)
		near(f.t, name+": value", v, f.vector(layer, head, position, 1), share)
	}
}

func (f *combined) feed(n int) { feedVectors(f.t, f.s, n, f.vector) }

// feedVectors feeds n tokens, of attention by chance.
func feedVectors(t *testing.T, s *Sequence, n int, vector func(layer, head int, position int32, which uint64) []float32) {
	shape := s.plan.Shape
	for layer := range shape.Layers {
		var k, v []uint16
		for head := range shape.KVHeads {
			squares := make([]float32, shape.HeadDim)
			for c := range squares {
				squares[c] = float32(1 + (c*7+head)%5)
			}
			if s.Queries(layer, head) {
				s.Ask(layer, head, n, squares)
			}
			for i := range n {
				position := int32(s.Position() + i)
				k = append(k, narrow(vector(layer, head, position, 0))...)
				v = append(v, narrow(vector(layer, head, position, 1))...)
			}
		}
		s.MakeRoom(layer, n)
		first, _ := s.Observed(n, n)
		random := rand.New(rand.NewPCG(uint64(s.Position()), uint64(layer)))
		columns := func(tokens int) []float32 {
			x := make([]float32, shape.Group*tokens)
			for i := range x {
				x[i] = random.Float32()
			}
			return x
		}
		fits := s.Fits(layer, n)
		var own []float32
		for head := range shape.KVHeads {
			if fits {
				at := head * n * shape.HeadDim
				s.Append(layer, head, k[at:at+n*shape.HeadDim], v[at:at+n*shape.HeadDim])
			}
			if first == n {
				continue
			}
			packed := len(s.Packed(layer, head).Groups) / max(1, s.packing.Words()) * GroupTokens
			if packed > 0 {
				s.ObservePacked(layer, head, 0, columns(packed))
			}
			loose, _ := s.Segment(layer, head)
			tokens := len(loose) / shape.HeadDim
			s.Observe(layer, head, 0, columns(tokens/2))
			s.Observe(layer, head, tokens/2, columns(tokens-tokens/2))
			if !fits {
				own = append(own, columns(n)...)
			}
		}
		if !fits {
			s.Insert(layer, k, v, own)
		}
		if held := s.Held(); held.Bytes > s.plan.Bytes {
			t.Fatalf("%s: holds %d bytes of %d", s.plan.Spec, held.Bytes, s.plan.Bytes)
		}
	}
	s.Advance(n)
}

// verify checks that every token is held or was handed over, once, and that what is
// held is what was fed.
func (f *combined) verify() {
	shape := f.s.plan.Shape
	for layer := range shape.Layers {
		for head := range shape.KVHeads {
			i := layer*shape.KVHeads + head
			h := &f.s.heads[i]
			positions := f.s.Positions(layer, head)
			k, v := f.s.Segment(layer, head)
			loose, front := len(k)/shape.HeadDim, h.front()
			packed := f.s.Packed(layer, head)
			keys, values := make([]float32, GroupTokens*shape.HeadDim), make([]float32, GroupTokens*shape.HeadDim)
			for j, position := range positions {
				if j > 0 && position <= positions[j-1] {
					f.t.Fatalf("%s: positions do not rise: %v", f.s.plan.Spec, positions)
				}
				if f.absorbed[i][position] != 0 {
					f.t.Fatalf("%s: token %d is held and was handed over", f.s.plan.Spec, position)
				}
				at := j
				switch group := j - front; {
				case h.settled == 0 || j < front:
				case group < h.settled*GroupTokens:
					if group%GroupTokens == 0 {
						packed.Unpack(keys, values, group/GroupTokens)
					}
					from, to := group%GroupTokens*shape.HeadDim, (group%GroupTokens+1)*shape.HeadDim
					f.check(layer, head, position, keys[from:to], values[from:to])
					continue
				default:
					at = j - h.settled*GroupTokens
				}
				if at >= loose {
					f.t.Fatalf("%s: token %d is nowhere", f.s.plan.Spec, position)
				}
				if !f.merges {
					near(f.t, fmt.Sprintf("%s: recent token %d", f.s.plan.Spec, position), wide(k[at*shape.HeadDim:(at+1)*shape.HeadDim]), f.vector(layer, head, position, 0), 0)
					near(f.t, fmt.Sprintf("%s: recent token %d", f.s.plan.Spec, position), wide(v[at*shape.HeadDim:(at+1)*shape.HeadDim]), f.vector(layer, head, position, 1), 0)
				}
			}
			for position, times := range f.absorbed[i] {
				if times != 1 {
					f.t.Fatalf("%s: token %d was handed over %d times", f.s.plan.Spec, position, times)
				}
			}
			if len(positions)+len(f.absorbed[i]) != f.s.Position() {
				f.t.Fatalf("%s: %d held and %d handed over of %d tokens", f.s.plan.Spec, len(positions), len(f.absorbed[i]), f.s.Position())
			}
		}
	}
}

// allocated is the memory of a sequence, by its parts.
func (f *combined) allocated() int64 {
	var used int64
	for i, h := range f.s.heads {
		used += int64(2*(cap(h.k)+cap(h.v)+cap(h.sinks)+cap(h.groups)+cap(h.psi)+cap(h.channels)) + 4*(cap(h.positions)+cap(h.attention)+cap(h.queries)))
		for _, part := range f.s.states[i].parts() {
			used += int64(4 * cap(part))
		}
		if uintptr(unsafe.Pointer(unsafe.SliceData(h.positions)))%4 != 0 {
			f.t.Errorf("%s: positions are not aligned", f.s.plan.Spec)
		}
	}
	return used
}
