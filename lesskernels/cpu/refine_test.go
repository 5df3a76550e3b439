package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/lesskernels"
)

// Panels with an output near a token's highest are those of pairs of codes, all others
// those of codes, and a token's are the same whatever stands beside it.
func TestMulRefined(t *testing.T) {
	const rows, cols = 37*panelRows + 5, 96
	random := rand.New(rand.NewPCG(7, 8))
	pool := NewPool(2)
	defer pool.Close()
	for _, isa := range isas() {
		for _, dtype := range []lesskernels.DType{lesskernels.Q8_0, lesskernels.Q4_1, lesskernels.F32} {
			m, err := Pack(dtype, randomWeights(random, dtype, rows*cols), rows, cols, isa)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{1, 3, 14} {
				x := randomFloats(random, n*cols)
				var in Input
				in.Set(x, n, cols)
				coarse, fine, got := make([]float32, n*rows), make([]float32, n*rows), make([]float32, n*rows)
				m.Mul(pool, coarse, &in)
				MulAll(pool, &in, Product{Matrix: m, Dst: fine, Pairs: true})
				span := slices.Max(coarse[:rows]) - slices.Min(coarse[:rows])
				for _, margin := range []float32{0, span / 3, float32(math.Inf(1))} {
					in.Set(x, n, cols)
					m.MulRefined(pool, got, &in, margin)
					for token := range n {
						checkRefined(t, got[token*rows:][:rows], coarse[token*rows:][:rows], fine[token*rows:][:rows], margin)
						var one Input
						one.Set(x[token*cols:], 1, cols)
						alone := make([]float32, rows)
						m.MulRefined(pool, alone, &one, margin)
						if !slices.Equal(alone, got[token*rows:][:rows]) {
							t.Errorf("%v, %v: token %d of %d has other outputs than alone", isa, dtype, token, n)
						}
					}
				}
			}
		}
	}
}

func checkRefined(t *testing.T, got, coarse, fine []float32, margin float32) {
	t.Helper()
	limit := slices.Max(coarse) - margin
	for from := 0; from < len(got); from += panelRows {
		to := min(from+panelRows, len(got))
		want := coarse
		if slices.Max(coarse[from:to]) >= limit {
			want = fine
		}
		if !slices.Equal(got[from:to], want[from:to]) {
			t.Fatalf("outputs %d to %d are %v, want %v", from, to, got[from:to], want[from:to])
		}
	}
}

func TestAbove(t *testing.T) {
	nan := float32(math.NaN())
	for _, isa := range isas() {
		find := rowsFor(isa).above
		for n := range 70 {
			x := make([]float32, n)
			if n > 3 {
				x[3] = nan // never above
			}
			if at := find(x, 1); at < n {
				t.Errorf("%v: found %d of %d values below the limit", isa, at, n)
			}
			for i := range x {
				was := x[i]
				x[i] = 1
				if at := find(x, 1); at/16 != i/16 {
					t.Errorf("%v: found %d of %d, want %d or one of its sixteen", isa, at, n, i)
				}
				x[i] = was
			}
		}
	}
}
