package cuda

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"lessrag/lesskernels"
)

const stateTolerance = 1e-5

// featureMap is one of random weights.
func (r *rig) featureMap(h Heads, hidden, rank int) *lesskernels.FeatureMap {
	r.t.Helper()
	rates := r.normal(h.KVHeads*rank, 2)
	for i := range rates {
		rates[i] -= 5
	}
	f, err := lesskernels.NewFeatureMap(lesskernels.FeatureShape{Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.Dim, Hidden: hidden, Rank: rank},
		lesskernels.FeatureWeights{
			Wq1: r.normal(h.Heads*h.Dim*hidden, 1/math.Sqrt(float64(h.Dim))), Wq2: r.normal(h.Heads*hidden*rank, 0.4),
			Wk1: r.normal(h.KVHeads*h.Dim*hidden, 1/math.Sqrt(float64(h.Dim))), Wk2: r.normal(h.KVHeads*hidden*rank, 0.4),
			Wk3: r.normal(h.KVHeads*rank*rank, 0.3), S1: r.normal(h.KVHeads*rank, 1), S2: r.normal(h.KVHeads*rank, 0.5), Fade: rates,
		})
	r.must(err)
	return f
}

// putMaps puts feature maps on the device.
func (r *rig) putMaps(f *lesskernels.FeatureMap) *Maps {
	r.t.Helper()
	m, err := PutMaps(r.s, f, put(r, make([]byte, MapsBytes(f.FeatureShape))))
	r.must(err)
	return &m
}

// mapSizes are hidden sizes and ranks below, at and above what kernels take at a step.
var mapSizes = [][2]int{{128, 8}, {24, 3}, {33, 16}}

func TestPhi(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for i, h := range headShapes {
			size := mapSizes[i%len(mapSizes)]
			r.checkPhi(h, size[0], size[1], i%2 == 0)
		}
	})
}

// fade lets the features of a KV head grow older by so many positions.
func fade(f *lesskernels.FeatureMap, features []float32, kvHead, age int) {
	for j, rate := range f.Rates(kvHead) {
		features[j] *= float32(math.Exp(-rate * float64(age)))
	}
}

// checkPhi: rows that ask no state are left alone where a whole tile of them does not.
func (r *rig) checkPhi(h Heads, hidden, rank int, turned bool) {
	const rows = 50
	f := r.featureMap(h, hidden, rank)
	stride := h.Heads + 2*h.KVHeads
	if turned {
		stride = h.Heads
	}
	qkv := r.normal(rows*stride*h.Dim, 1)
	asked := make([]int64, rows)
	for row := range asked {
		if asked[row] = -1; row < 16 && row%5 == 1 || row >= 32 {
			asked[row] = int64(row)
		}
	}
	out := put(r, nothing(rows*h.Heads*rank))
	states := &States{Rank: rank, Phi: out, Asked: put(r, asked)}
	if turned {
		bits, rounded := brains(qkv)
		qkv = rounded
		r.must(r.PhiTurned(r.s, h, r.putMaps(f), put(r, bits), states, rows))
	} else {
		r.must(r.Phi(r.s, h, r.putMaps(f), put(r, qkv), states, rows))
	}
	var want []float64
	var got []float32
	phi := make([]float32, rank)
	for i, x := range get[float32](r, out, rows*h.Heads*rank) {
		row, head := i/rank/h.Heads, i/rank%h.Heads
		if row >= 16 && row < 32 {
			if x == x {
				r.t.Errorf("%+v: φ of row %d, which asks nothing, is %v", h, row, x)
			}
			continue
		}
		f.Phi(phi, head, qkv[(row*stride+head)*h.Dim:][:h.Dim])
		want, got = append(want, float64(phi[i%rank])), append(got, x)
	}
	near(r.t, fmt.Sprintf("φ of %+v, %d hidden, rank %d", h, hidden, rank), got, want, stateTolerance)
}

func TestAbsorb(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for i, h := range headShapes {
			size := mapSizes[i%len(mapSizes)]
			r.checkAbsorb(h, size[0], size[1])
		}
	})
}

// checkAbsorb: states of several sequences, of layer 1 of 2, some of which have tokens already, up to another
// clock, and one of which is switched off.
func (r *rig) checkAbsorb(h Heads, hidden, rank int) {
	const positions, stride, off = 60, 300, 3
	f := r.featureMap(h, hidden, rank)
	counts := []int{1, 15, 16, 17, 40, 5, 0, 0}
	var turns []float32 // [positions, dim]
	for position := range positions {
		var sines []float32
		for i := range h.Dim / 2 {
			s, c := math.Sincos(float64(position) * math.Pow(10000, -2*float64(i)/float64(h.Dim)))
			turns, sines = append(turns, float32(c)), append(sines, float32(s))
		}
		turns = append(turns, sines...)
	}
	keyBits, keys := brains(r.normal(stride*h.Dim, 1))
	valueBits, values := brains(r.normal(stride*h.Dim, 1))
	memory := nothing(2 * stride * h.Dim / 2) // of layer 0 none is read
	var bits []uint16
	for range len(memory) * 2 {
		bits = append(bits, 0x7fc0)
	}
	bits = append(append(bits, keyBits...), valueBits...)

	size := StateFloats(rank, h.Dim)
	states := lesskernels.NewLowRank(len(counts), rank, h.Dim)
	var table []float32
	var jobs []Job
	var leaving []Leaving
	var clocks []int
	for i, n := range counts {
		kv := i % h.KVHeads
		entries := 2 * h.KVHeads * 2 // [layers, kvHeads, 2] numbers
		at := len(table)
		for e := range entries {
			further := int32(-1)
			if e == 2*(h.KVHeads+kv) && i != off {
				if further = int32(entries); i%2 == 1 {
					further = Untouched(entries)
				}
			}
			table = append(table, math.Float32frombits(uint32(further)))
		}
		job := Job{Table: int64(at), KVHead: int64(kv), First: int64(len(leaving)), Count: int64(n)}
		clock, ages := 0, make([]int, n)
		for j := range ages {
			ages[j] = r.random.IntN(positions)
			job.Newest = max(job.Newest, int64(ages[j]))
		}
		held := nothing(size)
		if i%2 == 0 {
			clock = 20 + i
			for j := range held {
				held[j] = float32(math.Abs(float64(r.random.Float32())))
			}
			held[size-1] = math.Float32frombits(uint32(clock))
		}
		clocks = append(clocks, max(clock, int(job.Newest)))
		if i%2 == 0 {
			left := make([]float32, rank)
			for j := range left {
				left[j] = 1
			}
			fade(f, left, kv, clocks[i]-clock)
			for j := range rank {
				states.Z[i*rank+j] = held[rank*h.Dim+j] * left[j]
				for c := range h.Dim {
					states.H[(i*rank+j)*h.Dim+c] = held[j*h.Dim+c] * left[j]
				}
			}
		}
		table = append(table, held...)
		psi, key := make([]float32, rank), make([]float32, h.Dim)
		for _, position := range ages {
			row, other := r.random.IntN(stride), r.random.IntN(stride)
			turned := r.random.IntN(positions)
			leaving = append(leaving, Leaving{Key: int64(2*stride - stride + row), Value: int64(3*stride - stride + other), Layer: stride, Position: int64(position), Turned: int64(turned)})
			for j := range h.Dim / 2 {
				a, b := float64(keys[row*h.Dim+2*j]), float64(keys[row*h.Dim+2*j+1])
				c, s := float64(turns[turned*h.Dim+j]), float64(turns[turned*h.Dim+h.Dim/2+j])
				key[2*j], key[2*j+1] = float32(a*c+b*s), float32(b*c-a*s)
			}
			f.Psi(psi, kv, key)
			if last := &leaving[len(leaving)-1]; len(leaving)%3 == 2 { // its ψ is known
				rounded, known := brains(psi)
				last.Key, last.Turned = int64(len(bits)), -1
				bits = append(bits, rounded...)
				copy(psi, known)
			}
			fade(f, psi, kv, clocks[i]-position)
			states.Absorb(i, psi, values[other*h.Dim:][:h.Dim])
		}
		jobs = append(jobs, job)
	}
	p := put(r, table)
	r.must(r.Absorb(r.s, h, r.putMaps(f), put(r, bits), put(r, jobs), put(r, leaving), put(r, turns), p, len(jobs), 1))
	got := get[float32](r, p, len(table))
	for i := range counts {
		at := int(jobs[i].Table) + 4*h.KVHeads
		if i == off {
			if got[at] == got[at] {
				r.t.Errorf("%+v: a state that is switched off absorbs", h)
			}
			continue
		}
		var want []float64
		for _, part := range [][]float32{states.H[i*rank*h.Dim:][:rank*h.Dim], states.Z[i*rank:][:rank]} {
			for _, x := range part {
				want = append(want, float64(x))
			}
		}
		near(r.t, fmt.Sprintf("%d tokens absorbed of %+v, %d hidden, rank %d", counts[i], h, hidden, rank), got[at:at+size-1], want, stateTolerance)
		if further := int32(math.Float32bits(got[at-2*h.KVHeads+2*(i%h.KVHeads)])); further != int32(4*h.KVHeads) {
			r.t.Errorf("%+v: %d tokens leave a state at %d, want %d", h, counts[i], further, 4*h.KVHeads)
		}
		if clock := int(math.Float32bits(got[at+size-1])); clock != clocks[i] {
			r.t.Errorf("%+v: %d tokens put the clock to %d, want %d", h, counts[i], clock, clocks[i])
		}
	}
}

// What a KV head has absorbed joins what it holds, weighed by its gate; where it is not asked, or has
// none, its state is not even read.
func TestMergeStates(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for i, h := range headShapes {
			r.checkMergeStates(h, mapSizes[i%len(mapSizes)][1])
		}
	})
}

func (r *rig) checkMergeStates(h Heads, rank int) {
	c := look(r, h, []int{1, 3, 40, 70, 1, 2}, func(int) int { return 1 })
	const splits = 2
	c.splits(splits)
	r.must(r.Attend(r.s, &c.a, len(c.tiles), false, splits, 64))

	states := lesskernels.NewLowRank(c.a.Rows*h.KVHeads, rank, h.Dim) // one for every row
	f := r.featureMap(h, 8, rank)
	positions := make([]int32, c.a.Rows)
	clocks := make([]int, states.KVHeads)
	var memory []float32
	var asked []int64
	gates := make([]float32, states.KVHeads)
	for row := range c.a.Rows {
		table, entries := len(memory), 2*h.KVHeads*2
		asked = append(asked, int64(table))
		positions[row] = int32(300 + 5*row)
		memory = append(memory, nothing(entries)...)
		for kv := range h.KVHeads {
			i := row*h.KVHeads + kv
			gates[i] = float32(row) / 2
			further := len(memory) - table
			if row%3 == kv {
				further = -1 // switched off
			} else {
				for range 20 {
					psi := r.normal(rank, 1)
					for j := range psi {
						psi[j] = float32(math.Abs(float64(psi[j])))
					}
					states.Absorb(i, psi, r.normal(h.Dim, 1))
				}
			}
			memory[table+2*(h.KVHeads+kv)] = math.Float32frombits(uint32(int32(further)))
			memory[table+2*(h.KVHeads+kv)+1] = gates[i]
			if further >= 0 {
				memory = append(memory, states.H[i*rank*h.Dim:][:rank*h.Dim]...)
				memory = append(memory, states.Z[i*rank:][:rank]...)
				clocks[i] = int(positions[row]) + 20 - 30*kv
				memory = append(memory, math.Float32frombits(uint32(clocks[i])))
			}
		}
	}
	asked[4] = -1
	phi := r.normal(c.a.Rows*h.Heads*rank, 0.3)
	for i := range phi {
		phi[i] = float32(math.Abs(float64(phi[i])))
	}
	clear(phi[h.Heads*rank : h.Heads*rank+2*rank]) // below ε
	r.must(r.Merge(r.s, &c.a, c.list, c.a.Rows, splits, &States{Rank: rank, Phi: put(r, phi), Memory: put(r, memory), Asked: put(r, asked), At: put(r, positions), Rates: r.putMaps(f).Rates}, c.out))

	var want []float64
	c.eachQuery(0, math.MaxInt, func(row, head, kv int, p lesskernels.Partial) {
		other := lesskernels.Partial{Out: make([]float32, h.Dim)}
		asking := slices.Clone(phi[(row*h.Heads+head)*rank:][:rank])
		fade(f, asking, kv, int(positions[row])-clocks[row*h.KVHeads+kv])
		if states.Query(&other, row*h.KVHeads+kv, asking); row != 4 {
			other.LSE += gates[row*h.KVHeads+kv]
			p.Merge(other)
		}
		for _, x := range p.Out {
			want = append(want, float64(x))
		}
	})
	near(r.t, fmt.Sprintf("%+v, rank %d", h, rank), fromBrains(get[uint16](r, c.out, len(want))), want, attentionTolerance)
}

// Keys are turned from a copy of what they were first, however often.
func TestTurn(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, h := range []Heads{{6, 2, 64}, {3, 3, 128}} {
			const rows, layer = 100, 1
			bits, x := brains(r.normal(rows*h.Dim, 1))
			p := put(r, bits)
			turns := []Turn{{Copy: 40, CopyLayer: 20, CopyHead: 4, Key: 1, KeyLayer: 10, KeyHead: 5, Make: 1, Angle: 1}, {Copy: 43, CopyLayer: 20, CopyHead: 4, Key: 2, KeyLayer: 10, KeyHead: 5},
				{Copy: 70, CopyLayer: 10, CopyHead: 5, Key: 70, KeyLayer: 10, KeyHead: 5, Angle: 1}} // where it lies
			var cos, sin []float32
			for i := range 2 * h.Dim / 2 {
				s, c := math.Sincos(float64(i))
				cos, sin = append(cos, float32(c)), append(sin, float32(s))
			}
			r.must(r.Turn(r.s, h, p, put(r, turns), put(r, cos), put(r, sin), len(turns), layer))
			want := make([]float64, len(x))
			for i, v := range x {
				want[i] = float64(v)
			}
			for _, turn := range turns {
				for kv := range h.KVHeads {
					copied := int(turn.Copy+layer*turn.CopyLayer) + kv*int(turn.CopyHead)
					key := int(turn.Key+layer*turn.KeyLayer) + kv*int(turn.KeyHead)
					if turn.Make != 0 {
						copy(want[copied*h.Dim:][:h.Dim], want[key*h.Dim:])
					}
					for i := range h.Dim / 2 {
						a, b := want[copied*h.Dim+2*i], want[copied*h.Dim+2*i+1]
						c, s := float64(cos[int(turn.Angle)*h.Dim/2+i]), float64(sin[int(turn.Angle)*h.Dim/2+i])
						want[key*h.Dim+2*i], want[key*h.Dim+2*i+1] = a*c-b*s, a*s+b*c
					}
				}
			}
			near(t, fmt.Sprintf("keys of %+v", h), fromBrains(get[uint16](r, p, len(x))), want, roundedTo)
		}
	})
}
