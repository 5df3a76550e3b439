package cpu

import "math"

// Merge joins the attention of two disjoint sets of slots (flash-decoding's
// algebra): out [rows, dim] and lse [rows] become those of their union.
// rows = len(otherLSE). An empty segment, of lse −Inf, changes nothing,
// whatever its output holds.
func Merge(isa ISA, out, lse, other, otherLSE []float32, dim int) {
	for i, b := range otherLSE {
		a := lse[i]
		if math.IsInf(float64(b), -1) {
			continue
		}
		x, y := out[i*dim:(i+1)*dim], other[i*dim:(i+1)*dim]
		if math.IsInf(float64(a), -1) {
			lse[i] = b
			copy(x, y)
			continue
		}
		wa, wb := 1.0, 1.0 // the larger one's
		if a >= b {
			wb = math.Exp(float64(b - a))
		} else {
			wa = math.Exp(float64(a - b))
		}
		sum := wa + wb
		lse[i] = max(a, b) + float32(logOf(sum))
		fa, fb := float32(wa/sum), float32(wb/sum)
		done := mixAssembly(isa, x, y, fa, fb)
		mix(x[done:], y[done:], fa, fb)
	}
}

// mix is the portable x = a·x + b·y.
func mix(x, y []float32, a, b float32) {
	for i, v := range y {
		x[i] = a*x[i] + b*v
	}
}
