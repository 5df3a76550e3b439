package cpu

import "math"

// logOf is math.Log to ten digits, without its branches: attention takes a logarithm for
// every query of every segment.
func logOf(x float64) float64 {
	const rootHalf, least, greatest = 0x3fe6a09e667f3bcd, 1 << 52, 0x7ff << 52 // bits of √½, of normal numbers and of +∞
	bits := math.Float64bits(x)
	if bits-least >= greatest-least {
		return math.Log(x)
	}
	power := int64(bits-rootHalf) >> 52 // x = m·2^power with m in [√½, √2)
	m := math.Float64frombits(bits - uint64(power)<<52)
	y := (m - 1) / (m + 1)
	z := y * y
	return float64(power)*math.Ln2 + 2*y*(1+z*(1./3+z*(1./5+z*(1./7+z*(1./9+z*(1./11))))))
}
