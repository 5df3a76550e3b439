package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAttend compares every instruction set with float64 attention: single
// queries and blocks, odd sizes, queries that see nothing or only part.
func TestAttend(t *testing.T) {
	for _, isa := range isas() {
		for _, headDim := range []int{1, 8, 16, 20, 32, 40, 64, 80, 96, 128, 256} {
			for _, group := range []int{1, 2, 3, 4, 5, 9} {
				t.Run(fmt.Sprintf("%v/headDim=%d/group=%d", isa, headDim, group), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(uint64(headDim), uint64(group)))
					var s Scratch
					for _, visible := range [][]int32{
						{}, {0}, {1}, {3}, {4}, {17}, {131}, {0, 1}, {5, 6, 7}, {100, 3, 0},
						{1, 2, 3, 4, 5, 6, 7, 8, 9}, {60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71}, {49, 0, 48, 47, 96, 97, 95, 1, 200}, rising(33, 40),
					} {
						testAttend(t, rng, isa, headDim, group, visible, &s)
					}
				})
			}
		}
	}
}

// A query of a prompt gets the same result however few stand in its block.
func TestAttendBlockCut(t *testing.T) {
	const group, queries = 3, 11
	for _, isa := range isas() {
		for _, headDim := range []int{16, 64, 80} {
			rng := rand.New(rand.NewPCG(uint64(headDim), 9))
			slots := 120
			q := randomFloats(rng, queries*group*headDim)
			k, v := make([]uint16, slots*headDim), make([]uint16, slots*headDim)
			BF16(k, randomFloats(rng, len(k)))
			BF16(v, randomFloats(rng, len(v)))
			visible := rising(queries, slots-queries)
			var s Scratch
			whole, wholeLSE := make([]float32, len(q)), make([]float32, queries*group)
			AttendBlock(isa, whole, wholeLSE, q, k, v, group, headDim, visible, 0.2, &s)
			compareAttention(t, isa, whole, wholeLSE, q, k, v, group, headDim, visible, 0.2)
			for _, n := range []int{1, 2, 5, 9} {
				for from := 0; from < queries; from += n {
					to := min(from+n, queries)
					out, lse := make([]float32, (to-from)*group*headDim), make([]float32, (to-from)*group)
					AttendBlock(isa, out, lse, q[from*group*headDim:], k, v, group, headDim, visible[from:to], 0.2, &s)
					if !slices.Equal(out, whole[from*group*headDim:to*group*headDim]) || !slices.Equal(lse, wholeLSE[from*group:to*group]) {
						t.Errorf("%v, headDim %d: queries %d to %d have other results than in a block of %d", isa, headDim, from, to, queries)
					}
				}
			}
		}
	}
}

func testAttend(t *testing.T, rng *rand.Rand, isa ISA, headDim, group int, visible []int32, s *Scratch) {
	t.Helper()
	slots := 0
	for _, n := range visible {
		slots = max(slots, int(n))
	}
	queries := len(visible) * group
	q := randomFloats(rng, queries*headDim)
	k, v := make([]uint16, slots*headDim), make([]uint16, slots*headDim)
	BF16(k, randomFloats(rng, len(k)))
	BF16(v, randomFloats(rng, len(v)))
	for i := range q {
		q[i] *= 3
	}
	scale := float32(1 / math.Sqrt(float64(headDim)))
	out, lse := make([]float32, len(q)), make([]float32, queries)
	for i := range out {
		out[i] = float32(math.NaN())
	}
	Attend(isa, out, lse, q, k, v, group, headDim, visible, scale, s)
	compareAttention(t, isa, out, lse, q, k, v, group, headDim, visible, scale)
	clear(out)
	AttendFloat32(isa, out, lse, q, widened(k), widened(v), group, headDim, visible, scale, s)
	compareAttention(t, min(isa, AVX512), out, lse, q, k, v, group, headDim, visible, scale)
}

func widened(x []uint16) []float32 {
	out := make([]float32, len(x))
	for i, h := range x {
		out[i] = fromBF16(h)
	}
	return out
}

func compareAttention(t *testing.T, isa ISA, out, lse, q []float32, k, v []uint16, group, headDim int, visible []int32, scale float32) {
	t.Helper()
	squares, bounds := 0.0, 0.0
	for i := range lse {
		query, slots := q[i*headDim:(i+1)*headDim], int(visible[i/group])
		want, wantLSE := attend64(query, k, v, slots, float64(scale))
		off := scoreError(isa, query, k, slots) * float64(scale)
		if got := float64(lse[i]); got != wantLSE && !(math.Abs(got-wantLSE) <= off+2e-6*(1+math.Abs(wantLSE))) {
			t.Fatalf("visible %v: lse[%d] = %v, want %v ± %v", visible, i, got, wantLSE, off)
		}
		bound := 1e-6 * float64(5+headDim/16)
		if isa >= AVX512BF16 {
			bound += (2*off + 1./256) * largest(v[:slots*headDim]) // a weight rounded to bf16
		}
		for c, w := range want {
			diff := math.Abs(float64(out[i*headDim+c]) - w)
			if !(diff <= bound) {
				t.Fatalf("visible %v: out[%d, %d] = %v, want %v ± %v", visible, i, c, out[i*headDim+c], w, bound)
			}
			squares, bounds = squares+diff*diff, bounds+bound*bound
		}
	}
	if rounding := math.Sqrt(squares / max(bounds, 1e-30)); !(rounding <= 0.25) && isa >= AVX512BF16 {
		t.Errorf("visible %v: errors are %.2f of their bound, which rounding does not explain", visible, rounding)
	}
}

// scoreError bounds the error of a product of a query with a key where both are
// rounded to multiples of their norm by 32,700: none does that below AVX512BF16.
func scoreError(isa ISA, query []float32, k []uint16, slots int) float64 {
	if isa < AVX512BF16 || len(query)%16 != 0 {
		return 0
	}
	norm := func(x []float32) float64 {
		sum := 0.0
		for _, v := range x {
			sum += float64(v) * float64(v)
		}
		return math.Sqrt(sum)
	}
	most, n := 0.0, len(query)
	for t := range slots {
		most = max(most, norm(widened(k[t*n:(t+1)*n])))
	}
	return norm(query) * most * math.Sqrt(float64(n)) / 32600
}

// largest is the largest magnitude of bf16 numbers.
func largest(x []uint16) float64 {
	most := 0.0
	for _, v := range widened(x) {
		most = max(most, math.Abs(float64(v)))
	}
	return most
}

// attend64 is the attention of one query in float64.
func attend64(q []float32, k, v []uint16, slots int, scale float64) (out []float64, lse float64) {
	out = make([]float64, len(q))
	scores := make([]float64, slots)
	peak := math.Inf(-1)
	for t := range scores {
		for c, x := range q {
			scores[t] += float64(x) * float64(fromBF16(k[t*len(q)+c])) * scale
		}
		peak = max(peak, scores[t])
	}
	if slots == 0 {
		return out, peak
	}
	sum := 0.0
	for t, x := range scores {
		p := math.Exp(x - peak)
		sum += p
		for c := range out {
			out[c] += p * float64(fromBF16(v[t*len(q)+c]))
		}
	}
	for c := range out {
		out[c] /= sum
	}
	return out, peak + math.Log(sum)
}

// TestAttendExtremes checks scores far apart, which must not overflow, and
// that a NaN in a visible key shows in every query that sees it and no other.
func TestAttendExtremes(t *testing.T) {
	const headDim, slots = 64, 70
	for _, isa := range isas() {
		for _, queries := range []int{1, 20} {
			t.Run(fmt.Sprintf("%v/queries=%d", isa, queries), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(5, 6))
				q, k, v := make([]float32, queries*headDim), make([]uint16, slots*headDim), make([]uint16, slots*headDim)
				BF16(v, randomFloats(rng, len(v)))
				for i := range q {
					q[i] = 30
				}
				for i := range k {
					k[i] = toBF16(float32(i/headDim - 40))
				}
				visible := make([]int32, queries)
				for i := range visible {
					visible[i] = slots
				}
				out, lse := make([]float32, len(q)), make([]float32, queries)
				var s Scratch
				Attend(isa, out, lse, q, k, v, 1, headDim, visible, 1, &s)
				for i, x := range out {
					if want := fromBF16(v[(slots-1)*headDim+i%headDim]); !(math.Abs(float64(x-want)) <= 1e-6) {
						t.Fatalf("out[%d] = %v, want the last value %v", i, x, want)
					}
				}
				k[10*headDim+3] = toBF16(float32(math.NaN()))
				if queries > 1 {
					visible[0], visible[1], v[12*headDim] = 10, 0, toBF16(float32(math.NaN()))
				}
				Attend(isa, out, lse, q, k, v, 1, headDim, visible, 1, &s)
				for i := range queries {
					if got, want := out[i*headDim+1] != out[i*headDim+1], visible[i] > 10; got != want {
						t.Fatalf("query %d that sees %d slots: NaN %v, want %v", i, visible[i], got, want)
					}
					if queries > 1 && i == 0 && out[0] != out[0] {
						t.Fatalf("a NaN in the value of slot 12 shows in a query that sees %d", visible[i])
					}
					if x := out[i*headDim]; visible[i] == 0 && x != 0 {
						t.Fatalf("query %d that sees nothing: %v", i, x)
					}
				}
			})
		}
	}
}
