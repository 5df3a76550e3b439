package cpu

import "math"

// fromBF16 widens a bfloat16.
func fromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// bf16 is the portable BF16.
func bf16(dst []uint16, src []float32) {
	for i, x := range src {
		dst[i] = toBF16(x)
	}
}

// toBF16 rounds to bfloat16, ties to even.
func toBF16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// fromF16 widens a binary16.
func fromF16(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exponent {
	case 0: // zero or subnormal: fraction · 2⁻²⁴
		return math.Float32frombits(sign | math.Float32bits(float32(fraction)*0x1p-24))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// toF16 rounds to binary16, ties to even; what is too large becomes infinite.
func toF16(x float32) uint16 {
	b := math.Float32bits(x)
	sign, a := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case a > 0x7f800000:
		return sign | 0x7e00
	case a >= 0x477ff000: // rounds to 65536 or beyond
		return sign | 0x7c00
	case a < 0x38800000: // below 2⁻¹⁴: subnormal steps of 2⁻²⁴
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(a))*0x1p24))
	}
	return sign | uint16((a+0xfff+a>>13&1-0x38000000)>>13)
}
