package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/lesskernels"
)

// forStates runs a test on every instruction set, rank and head dim.
func forStates(t *testing.T, f func(t *testing.T, rng *rand.Rand, isa ISA, rank, headDim int)) {
	for _, isa := range isas() {
		for _, rank := range []int{1, 5, 8, 16, 19} {
			for _, headDim := range []int{1, 16, 40, 64, 80, 128, 256} {
				t.Run(fmt.Sprintf("%v/R=%d/headDim=%d", isa, rank, headDim), func(t *testing.T) {
					f(t, rand.New(rand.NewPCG(uint64(rank), uint64(headDim))), isa, rank, headDim)
				})
			}
		}
	}
}

// TestAbsorbRecall absorbs tokens in batches of odd sizes and compares the state
// and its answers with the oracle's.
func TestAbsorbRecall(t *testing.T) {
	forStates(t, func(t *testing.T, rng *rand.Rand, isa ISA, rank, headDim int) {
		oracle := lesskernels.NewLowRank(1, rank, headDim)
		h, z := make([]float32, rank*headDim), make([]float32, rank)
		oneH, oneZ := make([]float32, rank*headDim), make([]float32, rank)
		for _, n := range []int{0, 1, 2, 7, 33} {
			psi, v := randomFloats(rng, n*rank), make([]uint16, n*headDim)
			for i := range psi {
				psi[i] = abs(psi[i])
			}
			BF16(v, randomFloats(rng, len(v)))
			Absorb(isa, h, z, psi, v)
			for i := range n {
				p, x := psi[i*rank:(i+1)*rank], v[i*headDim:(i+1)*headDim]
				Absorb(isa, oneH, oneZ, p, x)
				oracle.Absorb(0, p, widened(x))
			}
		}
		if !slices.Equal(h, oneH) || !slices.Equal(z, oneZ) {
			t.Fatal("absorbing at once and one by one differ")
		}
		near(t, "H", h, oracle.H, 2e-5)
		near(t, "z", z, oracle.Z, 2e-5)
		for _, rows := range []int{1, 3, 4, 24, 25} {
			testRecall(t, rng, isa, oracle, h, z, rows)
		}
	})
}

// testRecall joins a state to segments of more and less mass than it, to none, and to one
// beside which it vanishes.
func testRecall(t *testing.T, rng *rand.Rand, isa ISA, oracle *lesskernels.LowRank, h, z []float32, rows int) {
	t.Helper()
	const logScale = -0.75
	rank, headDim := len(z), len(h)/len(z)
	phi, lse := randomFloats(rng, rows*rank), make([]float32, rows)
	for i := range phi {
		phi[i] = abs(phi[i])
	}
	clear(phi[:rank]) // φ·z = 0 meets the floor
	before := append(randomFloats(rng, rows*headDim), 7)
	for i := range lse {
		lse[i] = []float32{float32(math.Inf(-1)), -3, 0, 2, 40, -90, -800, 800}[(i+rows)%8]
		if math.IsInf(float64(lse[i]), -1) {
			before[i*headDim] = nan // is not read
		}
	}
	out := slices.Clone(before)
	Recall(isa, out, lse, phi, h, z, logScale)
	if out[rows*headDim] != 7 {
		t.Fatal("wrote beyond the end")
	}
	state := lesskernels.Partial{Out: make([]float32, headDim)}
	for i := range rows {
		from, to := i*headDim, (i+1)*headDim
		oracle.Query(&state, 0, phi[i*rank:])
		state.LSE += logScale
		want := lesskernels.Partial{Out: slices.Clone(before[from:to]), LSE: lse[i]}
		want.Merge(state)
		near(t, "out", out[from:to], want.Out, 5e-6)
		alone := slices.Clone(before[from:to])
		if Recall(isa, alone, lse[i:i+1], phi[i*rank:(i+1)*rank], h, z, logScale); !slices.Equal(alone, out[from:to]) {
			t.Fatalf("row %d of %d differs from itself alone", i, rows)
		}
	}
}

func near(t *testing.T, what string, got, want []float32, tol float64) {
	t.Helper()
	for i, w := range want {
		if diff := math.Abs(float64(got[i] - w)); !(diff <= tol*(1+math.Abs(float64(w)))) {
			t.Fatalf("%s[%d] = %v, want %v", what, i, got[i], w)
		}
	}
}

// TestRecallNothing checks states that are none, and that a NaN is no floor.
func TestRecallNothing(t *testing.T) {
	for _, isa := range isas() {
		out := []float32{1, 2}
		Recall(isa, out, []float32{5}, nil, nil, nil, 0)
		Recall(isa, out, []float32{5}, []float32{1}, []float32{3, 4}, []float32{1}, float32(math.Inf(-1)))
		if !slices.Equal(out, []float32{1, 2}) {
			t.Errorf("%v: a state of rank 0, or one that is off, gives %v", isa, out)
		}
		if Recall(isa, out, []float32{5}, []float32{nan}, []float32{3, 4}, []float32{1}, 0); out[0] == out[0] {
			t.Errorf("%v: φ of NaN gives %v", isa, out)
		}
	}
}

// TestMerge splits attention at every slot: the joined halves, one of them
// empty at the ends, equal the oracle's attention over all.
func TestMerge(t *testing.T) {
	const slots = 9
	for _, isa := range isas() {
		for _, dim := range []int{1, 16, 40, 64, 80, 256} {
			rng := rand.New(rand.NewPCG(1, uint64(dim)))
			q, k, v := randomFloats(rng, dim), randomFloats(rng, slots*dim), randomFloats(rng, slots*dim)
			whole, _ := lesskernels.Attend(q, k, v, 1)
			for cut := range slots + 1 {
				a, _ := lesskernels.Attend(q, k[:cut*dim], v[:cut*dim], 1)
				b, _ := lesskernels.Attend(q, k[cut*dim:], v[cut*dim:], 1)
				for _, p := range []*lesskernels.Partial{&a, &b} {
					if math.IsInf(float64(p.LSE), -1) {
						p.Out[0] = nan // must not be read
					}
				}
				x, y := slices.Repeat(a.Out, 3), slices.Repeat(b.Out, 3)
				lse, other := []float32{a.LSE, a.LSE, a.LSE}, []float32{b.LSE, b.LSE, b.LSE}
				Merge(isa, x, lse, y, other, dim)
				for i := range lse {
					near(t, "lse", lse[i:i+1], []float32{whole.LSE}, 1e-5)
					near(t, "out", x[i*dim:(i+1)*dim], whole.Out, 5e-6)
				}
			}
			lse := []float32{float32(math.Inf(-1))}
			Merge(isa, make([]float32, dim), lse, make([]float32, dim), []float32{float32(math.Inf(-1))}, dim)
			if !math.IsInf(float64(lse[0]), -1) {
				t.Errorf("%v: two empty segments give lse %v", isa, lse[0])
			}
		}
	}
}
