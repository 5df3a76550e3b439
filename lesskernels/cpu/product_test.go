package cpu

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestAddProduct compares with float64 sums: odd sizes, both orders of a, rows
// with gaps.
func TestAddProduct(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	random := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return x
	}
	for _, size := range [][3]int{{1, 1, 1}, {6, 64, 128}, {7, 16, 5}, {13, 80, 129}, {5, 33, 300}, {64, 128, 257}, {3, 200, 64}} {
		m, n, k := size[0], size[1], size[2]
		for _, a := range []Strided{Rows(random(m*k), k), Rows(random(m*k), m).T(), {random(m * (k + 3)), k + 3, 1}} {
			b, c := Strided{random(k * (n + 2)), n + 2, 1}, Strided{random(m * (n + 5)), n + 5, 1}
			want := make([]float64, m*n)
			for i := range m {
				for j := range n {
					want[i*n+j] = float64(c.Data[i*c.Row+j])
					for l := range k {
						want[i*n+j] += float64(a.Data[i*a.Row+l*a.Col]) * float64(b.Data[l*b.Row+j])
					}
				}
			}
			before := append([]float32(nil), c.Data...)
			for isa := Portable; isa <= Best(); isa++ {
				got := Strided{append([]float32(nil), before...), c.Row, 1}
				addProduct(isa, got, a, b, m, n, k)
				for i, x := range got.Data {
					row, col := i/c.Row, i%c.Row
					if col >= n {
						if x != before[i] {
							t.Fatalf("%v %v: element %d, %d outside of the product changed", isa, size, row, col)
						}
						continue
					}
					if w := want[row*n+col]; !(math.Abs(float64(x)-w) <= 1e-4) {
						t.Fatalf("%v %v: element %d, %d is %v, want %v", isa, size, row, col, x, w)
					}
				}
			}
		}
	}
}

func TestAddProductRefuses(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a product outside of its memory was computed")
		}
	}()
	AddProduct(Rows(make([]float32, 11), 4), Rows(make([]float32, 6), 2), Rows(make([]float32, 8), 4), 3, 4, 2)
}

// TestGELUSlope compares with the float64 derivative, the far tails included.
func TestGELUSlope(t *testing.T) {
	x := make([]float32, 0, 4001)
	for i := -2000; i <= 2000; i++ {
		x = append(x, float32(i)/100)
	}
	want, slope := make([]float32, len(x)), make([]float32, len(x))
	geluSlope(want, slope, x)
	for isa := Portable; isa <= Best(); isa++ {
		dst, got := make([]float32, len(x)), make([]float32, len(x))
		geluSlopeFor(isa, dst, got, x)
		for i := range x {
			if !(math.Abs(float64(got[i]-slope[i])) <= 1e-6) || !(math.Abs(float64(dst[i]-want[i])) <= 1e-6*(1+math.Abs(float64(want[i])))) {
				t.Fatalf("%v: at %v: %v and slope %v, want %v and %v", isa, x[i], dst[i], got[i], want[i], slope[i])
			}
		}
	}
	const h = 1e-3
	for i := 0; i < len(x); i += 37 {
		v := float64(x[i])
		gelu := func(v float64) float64 { return 0.5 * v * math.Erfc(-v/math.Sqrt2) }
		if d := (gelu(v+h) - gelu(v-h)) / (2 * h); !(math.Abs(float64(slope[i])-d) <= 1e-5) {
			t.Errorf("at %v: slope %v, difference quotient %v", v, slope[i], d)
		}
	}
}

func BenchmarkAddProduct(b *testing.B) {
	const m, n, k = 320, 128, 64
	c, x, w := Rows(make([]float32, m*n), n), Rows(make([]float32, m*k), k), Rows(make([]float32, k*n), n)
	for b.Loop() {
		AddProduct(c, x, w, m, n, k)
	}
	b.ReportMetric(float64(m*n*k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GMAC/s")
}
