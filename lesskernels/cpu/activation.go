package cpu

import "math"

// SwiGLU writes gate·sigmoid(gate) ⊙ up to dst (arXiv 2002.05202), which may
// be either of them.
func SwiGLU(dst, gate, up []float32) {
	dst, up = dst[:len(gate)], up[:len(gate)]
	for i, g := range gate {
		dst[i] = g / (1 + float32(math.Exp(-float64(g)))) * up[i]
	}
}

// GELU writes x·Φ(x), the erf form (arXiv 1606.08415), to dst, which may be x.
func GELU(dst, x []float32) {
	dst = dst[:len(x)]
	for i, v := range x {
		dst[i] = float32(0.5 * float64(v) * (1 + math.Erf(float64(v)/math.Sqrt2)))
	}
}

// Softmax turns x into e^x / Σ e^x. A row of −Inf alone becomes zeros.
func Softmax(x []float32) {
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
