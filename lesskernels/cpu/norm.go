package cpu

import "math"

// rmsNorm is the portable RMSNorm.
func rmsNorm(dst, x, w []float32, eps float32) {
	scale := float32(1 / math.Sqrt(float64(dot(x, x))/float64(len(x))+float64(eps)))
	for i, v := range x {
		dst[i] = v * scale * w[i]
	}
}

// layerNorm is the portable LayerNorm.
func layerNorm(dst, x, w, b []float32, eps float32) {
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
