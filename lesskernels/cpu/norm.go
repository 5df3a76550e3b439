package cpu

import "math"

// RMSNorm writes x / √(mean(x²) + eps) ⊙ w of one row to dst (arXiv 1910.07467).
// dst may be x.
func RMSNorm(dst, x, w []float32, eps float32) {
	dst, w = dst[:len(x)], w[:len(x)]
	scale := float32(1 / math.Sqrt(float64(Dot(x, x))/float64(len(x))+float64(eps)))
	for i, v := range x {
		dst[i] = v * scale * w[i]
	}
}

// LayerNorm writes (x − mean) / √(variance + eps) ⊙ w + b of one row to dst
// (arXiv 1607.06450). dst may be x.
func LayerNorm(dst, x, w, b []float32, eps float32) {
	dst, w, b = dst[:len(x)], w[:len(x)], b[:len(x)]
	sum := 0.0
	for _, v := range x {
		sum += float64(v)
	}
	mean := sum / float64(len(x))
	squares := 0.0
	for _, v := range x {
		d := float64(v) - mean
		squares += d * d
	}
	shift, scale := float32(mean), float32(1/math.Sqrt(squares/float64(len(x))+float64(eps)))
	for i, v := range x {
		dst[i] = (v-shift)*scale*w[i] + b[i]
	}
}
