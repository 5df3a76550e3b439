package cpu

import (
	"math"
	"testing"
)

// TestMapGELU compares the activation of feature maps with float64, from one tail to the
// other, where intervals of a table meet, and for lengths that end inside a register.
func TestMapGELU(t *testing.T) {
	for _, isa := range isas() {
		k := mapKernelsFor[min(isa, AVX512)]
		if k == nil {
			continue
		}
		var x []float32
		for v := float32(-13); v < 13; v += 1.0 / 512 {
			x = append(x, v, math.Nextafter32(v, 20))
		}
		x = append(x, -3e38, -1e-40, 0, 1e-40, 200, 3e38)
		for _, n := range []int{1, 7, 8, 15, 16, 17, 33, len(x)} {
			n -= n % 8 // what AVX2 does
			if isa >= AVX512 {
				n += 3
			}
			n = min(n, len(x))
			if n == 0 {
				continue
			}
			row := x[len(x)-n:]
			dst := make([]float32, n+1)
			dst[n] = 7
			k.gelu(&dst[0], &row[0], uintptr(n))
			for i, v := range row {
				want := 0.5 * float64(v) * math.Erfc(-float64(v)/math.Sqrt2)
				if !(math.Abs(float64(dst[i])-want) <= 1e-7+1e-7*math.Abs(want)) {
					t.Fatalf("%v: gelu(%v) = %v, want %v", isa, v, dst[i], want)
				}
			}
			if dst[n] != 7 {
				t.Fatal("wrote beyond the end")
			}
			dst[0] = nan
			if k.gelu(&dst[0], &dst[0], uintptr(n)); dst[0] == dst[0] {
				t.Fatal("a NaN vanished")
			}
		}
	}
}
