package cpu

import "math"

// GELUSlope writes GELU(x) to dst and its derivative Φ(x) + x·φ(x), φ the
// normal density, to slope. dst may be x.
func GELUSlope(dst, slope, x []float32) {
	geluSlopeFor(machine, dst[:len(x)], slope[:len(x)], x)
}

// geluSlope is the portable GELUSlope.
func geluSlope(dst, slope, x []float32) {
	for i, v := range x {
		v := float64(v)
		below := 0.5 * math.Erfc(-v/math.Sqrt2)
		dst[i] = float32(v * below)
		slope[i] = float32(below + v*math.Exp(-v*v/2)/math.Sqrt(2*math.Pi))
	}
}
