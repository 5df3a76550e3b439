package cpu

import "math"

// swiglu is the portable SwiGLU.
func swiglu(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = float32(float64(g)/(1+math.Exp(-float64(g)))) * up[i]
	}
}

// gelu is the portable GELU. erfc keeps the left tail's digits.
func gelu(dst, x []float32) {
	for i, v := range x {
		dst[i] = float32(0.5 * float64(v) * math.Erfc(-float64(v)/math.Sqrt2))
	}
}

// softmax is the portable Softmax.
func softmax(x []float32) {
	peak := float32(math.Inf(-1))
	for _, v := range x {
		peak = max(peak, v)
	}
	if math.IsInf(float64(peak), -1) {
		clear(x)
		return
	}
	sum := 0.0
	for i, v := range x {
		x[i] = float32(math.Exp(float64(v - peak)))
		sum += float64(x[i])
	}
	scale := float32(1 / sum)
	for i := range x {
		x[i] *= scale
	}
}
