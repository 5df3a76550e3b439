package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// oddSizes surround the widths of registers and unrolled loops.
var oddSizes = []int{1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 576, 1001}

var nan = float32(math.NaN())

// compareRows fails at the first value farther from its float64 twin than tol,
// relative to size.
func compareRows(t *testing.T, got []float32, want []float64, tol float64) {
	t.Helper()
	for i, w := range want {
		if diff := math.Abs(float64(got[i]) - w); !(diff <= tol*math.Max(math.Abs(w), 1e-30)) {
			t.Fatalf("of %d: [%d] = %v, want %v", len(want), i, got[i], w)
		}
	}
}

// forRows runs a test on every instruction set and odd size. Slices of one
// more value guard the end of what may be written.
func forRows(t *testing.T, f func(t *testing.T, r *rowKernels, rng *rand.Rand, n int)) {
	for _, isa := range isas() {
		for _, n := range oddSizes {
			t.Run(fmt.Sprintf("%v/%d", isa, n), func(t *testing.T) {
				f(t, rowsFor(isa), rand.New(rand.NewPCG(uint64(n), 9)), n)
			})
		}
	}
}

// spread are normal numbers, and some far out.
func spread(rng *rand.Rand, n int) []float32 {
	x := randomFloats(rng, n)
	for i := range x {
		if i%5 == 0 {
			x[i] *= 8
		}
	}
	return x
}

func TestDotAxpy(t *testing.T) {
	forRows(t, func(t *testing.T, r *rowKernels, rng *rand.Rand, n int) {
		a, b, size, want := randomFloats(rng, n), randomFloats(rng, n), 0.0, 0.0
		for i := range a {
			want += float64(a[i]) * float64(b[i])
			size += math.Abs(float64(a[i]) * float64(b[i]))
		}
		if got := float64(r.dot(a, b)); !(math.Abs(got-want) <= 1e-6*size) {
			t.Fatalf("dot = %v, want %v", got, want)
		}
		sum := make([]float64, n)
		for i := range a {
			sum[i] = float64(a[i]) + 0.5*float64(b[i])
		}
		dst := append(slices.Clone(a), 7)
		r.axpy(dst[:n], 0.5, b)
		for i, w := range sum {
			if !(math.Abs(float64(dst[i])-w) <= 1e-6) {
				t.Fatalf("axpy [%d] = %v, want %v", i, dst[i], w)
			}
		}
		if dst[n] != 7 {
			t.Fatal("axpy wrote beyond the end")
		}
	})
}

func TestArgMax(t *testing.T) {
	forRows(t, func(t *testing.T, r *rowKernels, rng *rand.Rand, n int) {
		low := float32(math.Inf(-1))
		for _, at := range []int{0, n / 2, n - 1} {
			x := randomFloats(rng, n)
			x[rng.IntN(n)] = low
			x[at], x[n-1] = 50, 50 // the first of equal ones
			if i, ok := r.argmax(x); i != at || !ok {
				t.Fatalf("the highest is at %d (%v), want %d", i, ok, at)
			}
			x[at] = low
			x[n-1] = low
			if i, ok := r.argmax(x); !ok || i != slices.Index(x, slices.Max(x)) {
				t.Fatalf("the highest is at %d (%v), want %d", i, ok, slices.Index(x, slices.Max(x)))
			}
			x[at] = nan
			if i, ok := r.argmax(x); ok {
				t.Fatalf("with a NaN the highest is at %d", i)
			}
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = low
		}
		if i, ok := r.argmax(x); i != 0 || !ok {
			t.Fatalf("of −Inf alone the highest is at %d (%v)", i, ok)
		}
		if _, ok := r.argmax(nil); ok {
			t.Fatal("of nothing there is a highest")
		}
	})
}

func TestSoftmax(t *testing.T) {
	forRows(t, func(t *testing.T, r *rowKernels, rng *rand.Rand, n int) {
		x := spread(rng, n)
		x[n/2] = float32(math.Inf(-1))
		want, sum, peak := make([]float64, n), 0.0, math.Inf(-1)
		for _, v := range x {
			peak = max(peak, float64(v))
		}
		if n == 1 {
			x[0], peak = 3, 3
		}
		for i, v := range x {
			want[i] = math.Exp(float64(v) - peak)
			sum += want[i]
		}
		for i := range want {
			want[i] /= sum
		}
		dst := append(slices.Clone(x), 7)
		r.softmax(dst[:n])
		compareRows(t, dst, want, 5e-6)
		if dst[n] != 7 {
			t.Fatal("wrote beyond the end")
		}
		for i := range dst {
			dst[i] = float32(math.Inf(-1))
		}
		if r.softmax(dst[:n]); !slices.Equal(dst[:n], make([]float32, n)) {
			t.Fatalf("of −Inf alone: %v", dst[:n])
		}
		dst[n/2] = nan
		if r.softmax(dst[:n]); dst[n/2] == dst[n/2] && n > 1 {
			t.Fatalf("a NaN vanished: %v", dst[:n])
		}
	})
}

// TestExp checks the vector exponential through softmax's weights: relative to
// float64 within 3e-7 over its whole range.
func TestExp(t *testing.T) {
	for _, isa := range isas() {
		t.Run(isa.String(), func(t *testing.T) {
			for base := float32(-80); base < 0; base += 0.37 {
				x := make([]float32, 17)
				for i := range x {
					x[i] = base + float32(i)*0.0217
				}
				x[16] = 0
				weights := slices.Clone(x)
				rowsFor(isa).softmax(weights)
				for i, w := range weights[:16] {
					want := math.Exp(float64(x[i])) * float64(weights[16])
					if !(math.Abs(float64(w)-want) <= 3e-7*want) {
						t.Fatalf("e^%v = %v, want %v", x[i], w, want)
					}
				}
			}
		})
	}
}

func TestSwiGLU(t *testing.T) {
	forRows(t, func(t *testing.T, r *rowKernels, rng *rand.Rand, n int) {
		gate, up, want := spread(rng, n), randomFloats(rng, n), make([]float64, n)
		for i, g := range gate {
			want[i] = float64(g) / (1 + math.Exp(-float64(g))) * float64(up[i])
		}
		dst := append(slices.Clone(gate), 7)
		r.swiglu(dst[:n], dst[:n], up)
		compareRows(t, dst, want, 1e-6)
		if dst[n] != 7 {
			t.Fatal("wrote beyond the end")
		}
		gate[0], gate[n-1], up[0], up[n-1] = -200, 200, 1, 1
		r.swiglu(dst[:n], gate, up)
		if n > 1 && (!(math.Abs(float64(dst[0])) <= 1e-30) || dst[n-1] != 200) {
			t.Fatalf("of ∓200: %v and %v", dst[0], dst[n-1])
		}
		gate[n-1] = nan
		if r.swiglu(dst[:n], gate, up); dst[n-1] == dst[n-1] {
			t.Fatal("a NaN vanished")
		}
	})
}

func TestGELU(t *testing.T) {
	forRows(t, func(t *testing.T, r *rowKernels, rng *rand.Rand, n int) {
		x, want := spread(rng, n), make([]float64, n)
		for i := range x {
			if x[i] < -9 {
				x[i] = -9
			}
			want[i] = 0.5 * float64(x[i]) * math.Erfc(-float64(x[i])/math.Sqrt2)
		}
		dst := append(slices.Clone(x), 7)
		r.gelu(dst[:n], dst[:n])
		for i, w := range want {
			if diff := math.Abs(float64(dst[i]) - w); !(diff <= 3e-7*math.Abs(w)+1e-7*math.Exp(-float64(x[i])*float64(x[i])/4)) {
				t.Fatalf("gelu(%v) = %v, want %v", x[i], dst[i], w)
			}
		}
		if dst[n] != 7 {
			t.Fatal("wrote beyond the end")
		}
		x[n-1] = nan
		if r.gelu(dst[:n], x); dst[n-1] == dst[n-1] {
			t.Fatal("a NaN vanished")
		}
	})
}

func TestNorms(t *testing.T) {
	forRows(t, func(t *testing.T, r *rowKernels, rng *rand.Rand, n int) {
		const eps = 1e-5
		x, w, b := randomFloats(rng, n), randomFloats(rng, n), randomFloats(rng, n)
		mean, square, variance := 0.0, 0.0, 0.0
		for i := range x {
			x[i] += 3
			mean += float64(x[i]) / float64(n)
			square += float64(x[i]) * float64(x[i]) / float64(n)
		}
		for _, v := range x {
			variance += (float64(v) - mean) * (float64(v) - mean) / float64(n)
		}
		rms, layer := make([]float64, n), make([]float64, n)
		for i, v := range x {
			rms[i] = float64(v) / math.Sqrt(square+eps) * float64(w[i])
			layer[i] = (float64(v)-mean)/math.Sqrt(variance+eps)*float64(w[i]) + float64(b[i])
		}
		dst := append(slices.Clone(x), 7)
		r.rmsNorm(dst[:n], dst[:n], w, eps)
		compareRows(t, dst, rms, 1e-6)
		copy(dst, x)
		r.layerNorm(dst[:n], dst[:n], w, b, eps)
		for i, want := range layer {
			if !(math.Abs(float64(dst[i])-want) <= 2e-5) {
				t.Fatalf("layerNorm [%d] = %v, want %v", i, dst[i], want)
			}
		}
		if dst[n] != 7 {
			t.Fatal("wrote beyond the end")
		}
	})
}

func TestRope(t *testing.T) {
	for _, isa := range isas() {
		for _, headDim := range []int{2, 6, 16, 32, 64, 80, 128} {
			for _, heads := range []int{1, 3} {
				rng := rand.New(rand.NewPCG(uint64(headDim), 1))
				x := append(randomFloats(rng, heads*headDim), 7)
				cos, sin, want := make([]float32, headDim/2), make([]float32, headDim/2), make([]float64, heads*headDim)
				for i := range cos {
					s, c := math.Sincos(float64(i) * 1.7)
					cos[i], sin[i] = float32(c), float32(s)
				}
				for i := 0; i < len(want); i += 2 {
					s, c := math.Sincos(float64(i%headDim/2) * 1.7)
					a, b := float64(x[i]), float64(x[i+1])
					want[i], want[i+1] = a*c-b*s, a*s+b*c
				}
				rowsFor(isa).rope(x[:heads*headDim], heads, headDim, cos, sin)
				for i, w := range want {
					if !(math.Abs(float64(x[i])-w) <= 1e-6) {
						t.Fatalf("%v: heads %d of %d: [%d] = %v, want %v", isa, heads, headDim, i, x[i], w)
					}
				}
				if x[heads*headDim] != 7 {
					t.Fatalf("%v: wrote beyond the end", isa)
				}
			}
		}
	}
}

func TestAddPairs(t *testing.T) {
	for _, isa := range isas() {
		for pairs := range 7 {
			const stride = 19
			src := randomFloats(rand.New(rand.NewPCG(5, uint64(pairs))), 2*pairs*panelRows)
			got, want := make([]float32, 7*stride), make([]float32, 7*stride)
			addPairs(want, stride, src, pairs)
			if rowsFor(isa).addPairs(got, stride, src, pairs); !slices.Equal(got, want) {
				t.Fatalf("%v: %d pairs: %v, want %v", isa, pairs, got, want)
			}
			rowsFor(isa).addPairs(src, panelRows, src, pairs) // in place
			for i := range pairs {
				if !slices.Equal(src[i*panelRows:][:panelRows], want[i*stride:][:panelRows]) {
					t.Fatalf("%v: pair %d of %d in place", isa, i, pairs)
				}
			}
		}
	}
}

func TestAddRows(t *testing.T) {
	for _, isa := range isas() {
		for n := range 7 {
			const stride = 19
			rng := rand.New(rand.NewPCG(6, uint64(n)))
			src, got := randomFloats(rng, n*panelRows), randomFloats(rng, 7*stride)
			want := slices.Clone(got)
			addRows(want, stride, src, n)
			if rowsFor(isa).addRows(got, stride, src, n); !slices.Equal(got, want) {
				t.Fatalf("%v: %d rows: %v, want %v", isa, n, got, want)
			}
		}
	}
}

// TestBF16 checks that every instruction set rounds to the same bits.
func TestBF16(t *testing.T) {
	forRows(t, func(t *testing.T, r *rowKernels, rng *rand.Rand, n int) {
		x, dst := make([]float32, n), make([]uint16, n+1)
		for i := range x {
			x[i] = math.Float32frombits(rng.Uint32())
		}
		x[0] = math.Float32frombits(0x7f800001) // a NaN whose upper half is an infinity
		x[n/2] = math.Float32frombits(0x40008000 | rng.Uint32()&1<<16)
		dst[n] = 7
		r.bf16(dst[:n], x)
		for i, v := range x {
			if dst[i] != toBF16(v) {
				t.Fatalf("%#08x becomes %#04x, want %#04x", math.Float32bits(v), dst[i], toBF16(v))
			}
		}
		if dst[n] != 7 {
			t.Fatal("wrote beyond the end")
		}
	})
}
