package cuda

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func TestNorm(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, width := range []int{1, 33, 576, 1024, 1025, 2500} {
			r.checkNorm(width)
		}
	})
}

func (r *rig) checkNorm(width int) {
	const (
		epsilon = 1e-5
		rows    = 3
	)
	x, delta, w := r.normal(rows*width, 2), r.normal(rows*width, 1), r.normal(width, 1)
	pick := []int32{2, 0, 2, 1}
	sum := make([]float32, len(x))
	for i := range x {
		sum[i] = x[i] + delta[i]
	}
	norm := func(x []float32) (out []float64) {
		for row := range len(x) / width {
			squares := 0.0
			for _, v := range x[row*width:][:width] {
				squares += float64(v) * float64(v)
			}
			for i, v := range x[row*width:][:width] {
				out = append(out, float64(v)/math.Sqrt(squares/float64(width)+epsilon)*float64(w[i]))
			}
		}
		return out
	}
	var picked []float32
	for _, row := range pick {
		picked = append(picked, x[int(row)*width:][:width]...)
	}
	px, pw, out := put(r, x), put(r, w), put(r, make([]uint16, len(picked)))
	r.must(r.Norm(r.s, px, pw, out, rows, width, epsilon))
	near(r.t, fmt.Sprintf("norm of %d", width), fromBrains(get[uint16](r, out, rows*width)), norm(x), roundedTo)
	r.must(r.PickNorm(r.s, px, put(r, pick), pw, out, len(pick), width, epsilon))
	near(r.t, fmt.Sprintf("picked norm of %d", width), fromBrains(get[uint16](r, out, len(picked))), norm(picked), roundedTo)
	r.must(r.AddNorm(r.s, px, put(r, delta), pw, out, rows, width, epsilon))
	near(r.t, fmt.Sprintf("norm of a sum of %d", width), fromBrains(get[uint16](r, out, rows*width)), norm(sum), roundedTo)
	if got := get[float32](r, px, rows*width); !slices.Equal(got, sum) {
		r.t.Errorf("width %d: another sum", width)
	}
}

func TestElements(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, n := range []int{3, 1023, 1024, 3000} {
			gate, up := r.normal(n, 3), r.normal(n, 1)
			gate[n/2] = -100 // e¹⁰⁰ is no float32
			want, sum := make([]float64, n), make([]float32, n)
			for i := range want {
				want[i] = float64(gate[i]) / (1 + math.Exp(-float64(gate[i]))) * float64(up[i])
				sum[i] = gate[i] + up[i]
			}
			out := make([]uint16, n+1)
			out[n] = 7
			pg, pu, po := put(r, gate), put(r, up), put(r, out)
			r.must(r.SwiGLU(r.s, pg, pu, po, n))
			got := get[uint16](r, po, n+1)
			near(t, fmt.Sprintf("SwiGLU of %d", n), fromBrains(got[:n]), want, roundedTo)
			if got[n] != 7 {
				t.Errorf("SwiGLU of %d writes more", n)
			}
			r.must(r.Add(r.s, pg, pu, n))
			if !slices.Equal(get[float32](r, pg, n), sum) {
				t.Errorf("another sum of %d", n)
			}
		}
	})
}
