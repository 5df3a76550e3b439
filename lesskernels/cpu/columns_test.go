package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestColumns compares every instruction set and reduction with float64
// weights: single rows and blocks, odd sizes, rows that see nothing, slots that
// nobody sees, and sums joined with what was there.
func TestColumns(t *testing.T) {
	for _, isa := range isas() {
		for _, headDim := range []int{1, 16, 20, 40, 64, 80, 128, 256} {
			for _, group := range []int{1, 3, 4, 8} {
				t.Run(fmt.Sprintf("%v/headDim=%d/group=%d", isa, headDim, group), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(uint64(headDim), uint64(group)))
					var s Scratch
					for _, visible := range [][]int32{
						{}, {0}, {1}, {17}, {131}, {5, 6, 7}, {100, 3, 0}, {49, 0, 48, 47, 96, 97, 95, 1, 200},
						rising(33, 40),
					} {
						for _, reduce := range []Reduce{Sum, Max} {
							testColumns(t, rng, isa, headDim, group, visible, reduce, &s)
						}
					}
				})
			}
		}
	}
}

// rising are n rows of a block that follows some slots.
func rising(n, first int) []int32 {
	visible := make([]int32, n)
	for i := range visible {
		visible[i] = int32(first + i)
	}
	return visible
}

func testColumns(t *testing.T, rng *rand.Rand, isa ISA, headDim, group int, visible []int32, reduce Reduce, s *Scratch) {
	t.Helper()
	slots := 2 // which nobody sees
	for _, n := range visible {
		slots = max(slots, int(n)+2)
	}
	rows := len(visible) * group
	q, k := randomFloats(rng, rows*headDim), make([]uint16, slots*headDim)
	BF16(k, randomFloats(rng, len(k)))
	scale := 3 / math.Sqrt(float64(headDim))
	dst := randomFloats(rng, group*slots+1)
	for i := range dst {
		dst[i] = abs(dst[i]) / 2
	}
	want, lse, off := make([]float64, len(dst)), make([]float32, rows), 0.0
	for i, x := range dst {
		want[i] = float64(x)
	}
	for i := range lse {
		_, exact := attend64(q[i*headDim:(i+1)*headDim], k, k, int(visible[i/group]), scale)
		lse[i] = float32(exact)
		off = max(off, scoreError(isa, q[i*headDim:(i+1)*headDim], k, int(visible[i/group]))*scale)
		for slot := range int(visible[i/group]) {
			score := 0.0
			for c, x := range q[i*headDim : (i+1)*headDim] {
				score += float64(x) * float64(fromBF16(k[slot*headDim+c])) * scale
			}
			at := &want[i%group*slots+slot]
			if p := math.Exp(score - exact); reduce == Max {
				*at = max(*at, p)
			} else {
				*at += p
			}
		}
	}
	apart, again := randomFloats(rng, len(visible)*(group+2)*headDim), slices.Clone(dst)
	for i := range visible {
		copy(apart[i*(group+2)*headDim:], q[i*group*headDim:(i+1)*group*headDim])
	}
	Columns(isa, dst, q, lse, k, group, group, headDim, visible, float32(scale), reduce, s)
	Columns(isa, again, apart, lse, k, group, group+2, headDim, visible, float32(scale), reduce, s)
	if !slices.Equal(again, dst) {
		t.Fatalf("visible %v, reduction %d: rows that lie apart have other columns", visible, reduce)
	}
	for i, w := range want {
		if diff := math.Abs(float64(dst[i]) - w); !(diff <= (1e-5+off)*(w+0.1)) {
			t.Fatalf("visible %v, reduction %d: slot %d of head %d: %v, want %v", visible, reduce, i%slots, i/slots, dst[i], w)
		}
	}
}

// TestColumnsAgree checks that columns and attention compute the same scores: the
// weights of a row, by the log-sum-exp that attention gave it, add up to one, also
// where the scores are large.
func TestColumnsAgree(t *testing.T) {
	const group, headDim, rows = 3, 64, 70
	for _, isa := range isas() {
		rng := rand.New(rand.NewPCG(7, 8))
		visible := rising(rows, 130)
		slots := int(visible[rows-1])
		q, k := randomFloats(rng, rows*group*headDim), make([]uint16, slots*headDim)
		BF16(k, randomFloats(rng, len(k)))
		out, lse := make([]float32, len(q)), make([]float32, rows*group)
		var s Scratch
		Attend(isa, out, lse, q, k, k, group, headDim, visible, 4, &s)
		dst := make([]float32, group*slots)
		Columns(isa, dst, q, lse, k, group, group, headDim, visible, 4, Sum, &s)
		for g := range group {
			sum := 0.0
			for _, x := range dst[g*slots : (g+1)*slots] {
				sum += float64(x)
			}
			if !(math.Abs(sum-rows) <= 1e-4*rows) {
				t.Errorf("%v: the weights of %d rows add up to %v", isa, rows, sum)
			}
		}
	}
}

// TestColumnsExtremes checks that a row with no log-sum-exp adds nothing, and
// that a NaN shows in the slots that its row sees.
func TestColumnsExtremes(t *testing.T) {
	const headDim, slots = 64, 70
	for _, isa := range isas() {
		for _, rows := range []int{1, 20} {
			for _, reduce := range []Reduce{Sum, Max} {
				rng := rand.New(rand.NewPCG(5, 6))
				q, lse, k := randomFloats(rng, rows*headDim), make([]float32, rows), make([]uint16, slots*headDim)
				BF16(k, randomFloats(rng, len(k)))
				visible := make([]int32, rows)
				for i := range visible {
					visible[i], lse[i] = slots, float32(math.Inf(-1))
				}
				var s Scratch
				dst := make([]float32, slots)
				Columns(isa, dst, q, lse, k, 1, 1, headDim, visible, 1, reduce, &s)
				if !slices.Equal(dst, make([]float32, slots)) {
					t.Fatalf("%v: %d rows of lse −Inf gave %v", isa, rows, dst)
				}
				lse[0], visible[0], q[0] = 3, 60, nan
				Columns(isa, dst, q, lse, k, 1, 1, headDim, visible, 1, reduce, &s)
				for slot, x := range dst {
					if got, want := x != x, slot < 60; got != want {
						t.Fatalf("%v: %d rows, reduction %d: slot %d is %v", isa, rows, reduce, slot, x)
					}
				}
			}
		}
	}
}

// TestAttendRow compares a row with Attend, and its weights with the columns of the
// same row, where the slots are all that it sees and where they are a part.
func TestAttendRow(t *testing.T) {
	for _, isa := range isas() {
		for _, headDim := range []int{1, 16, 20, 40, 64, 80, 128, 256} {
			for _, group := range []int{1, 3, 4, 8, 9} {
				rng := rand.New(rand.NewPCG(uint64(headDim), uint64(group)))
				var s Scratch
				for _, slots := range []int{1, 3, 16, 47, 131} {
					q, k, v := randomFloats(rng, group*headDim), make([]uint16, slots*headDim), make([]uint16, slots*headDim)
					BF16(k, randomFloats(rng, len(k)))
					BF16(v, randomFloats(rng, len(v)))
					out, lse := make([]float32, group*headDim), make([]float32, group)
					weights, peak := randomFloats(rng, group*slots), make([]float32, group)
					AttendRow(isa, out, lse, weights, peak, q, k, v, group, headDim, 0.3, &s)

					wantOut, wantLSE := make([]float32, len(out)), make([]float32, group)
					visible := []int32{int32(slots)}
					Attend(Portable, wantOut, wantLSE, q, k, v, group, headDim, visible, 0.3, &s)
					off, outs := make([]float64, group), make([]float64, group) // what rounding explains
					for g := range off {
						if off[g] = scoreError(isa, q[g*headDim:(g+1)*headDim], k, slots) * 0.3; isa >= AVX512BF16 {
							outs[g] = (2*off[g] + 1./256) * largest(v)
						}
					}
					for i, want := range wantOut {
						g := i / headDim
						if !(float64(abs(out[i]-want)) <= 1e-4+outs[g]) || !(float64(abs(lse[g]-wantLSE[g])) <= 1e-4+off[g]) {
							t.Fatalf("%v, headDim %d, group %d, %d slots: output %d is %v of mass %v, want %v of %v",
								isa, headDim, group, slots, i, out[i], lse[i/headDim], want, wantLSE[i/headDim])
						}
					}
					const beside = 0.7 // nats of mass elsewhere
					for g := range lse {
						lse[g] += beside
					}
					want := make([]float32, group*slots)
					Columns(Portable, want, q, lse, k, group, group, headDim, visible, 0.3, Sum, &s)
					for i, p := range want {
						got := weights[i] * float32(math.Exp(float64(peak[i/slots]-lse[i/slots])))
						if !(float64(abs(got-p)) <= (1e-5+2*off[i/slots])*float64(p+0.1)) {
							t.Fatalf("%v, headDim %d, group %d, %d slots: weight %d is %v, want %v", isa, headDim, group, slots, i, got, p)
						}
					}
				}
			}
		}
	}
}

// TestRaise compares every instruction set with the larger of two numbers, on odd lengths.
func TestRaise(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, isa := range isas() {
		for _, n := range []int{0, 1, 7, 8, 15, 16, 17, 33, 1000, 1039} {
			dst, x := randomFloats(rng, n), randomFloats(rng, n+3)
			want := make([]float32, n)
			for i := range want {
				dst[i], x[i] = abs(dst[i]), abs(x[i])
				want[i] = max(dst[i], x[i])
			}
			if raise(isa, dst, x[:n]); !slices.Equal(dst, want) {
				t.Errorf("%v: of %d numbers some are not the larger", isa, n)
			}
		}
	}
}
