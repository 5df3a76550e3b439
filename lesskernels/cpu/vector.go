package cpu

// dot is the portable Dot.
func dot(a, b []float32) float32 {
	var s [8]float32
	i := 0
	for ; i+8 <= len(a); i += 8 {
		x, y := a[i:i+8], b[i:i+8]
		for j := range s {
			s[j] += x[j] * y[j]
		}
	}
	for ; i < len(a); i++ {
		s[0] += a[i] * b[i]
	}
	return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
}

// axpy is the portable Axpy.
func axpy(dst []float32, a float32, x []float32) {
	for i, v := range x {
		dst[i] += a * v
	}
}

// argmax is the portable ArgMax.
func argmax(x []float32) (int, bool) {
	best := 0
	for i, v := range x {
		if v != v {
			return 0, false
		}
		if v > x[best] {
			best = i
		}
	}
	return best, len(x) > 0
}
