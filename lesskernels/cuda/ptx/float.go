package ptx

import "math"

func f32(bits uint64) float32 { return math.Float32frombits(uint32(bits)) }

func bitsOf(x float32) uint64 { return uint64(math.Float32bits(x)) }

// flush is .ftz: numbers too small to be normal become zero.
func flush(x float32) float32 {
	if bits := math.Float32bits(x); bits&0x7f800000 == 0 {
		return math.Float32frombits(bits & 0x80000000)
	}
	return x
}

// rough is a result of an approximate instruction: off by as much as the ISA allows,
// 2 units in the last place, in a direction that looks like chance. Exact results stay.
func rough(x float64) float32 {
	y := float32(x)
	if float64(y) == x || y != y || math.IsInf(float64(y), 0) {
		return y
	}
	bits := math.Float32bits(y)
	off := []uint32{0, 1, 2, ^uint32(0), ^uint32(1)}[bits*2654435761>>16%5]
	if moved := bits + off; moved&0x7f800000 == bits&0x7f800000 {
		bits = moved // within the same exponent
	}
	return math.Float32frombits(bits)
}

func fromBF16(bits uint64) float32 { return math.Float32frombits(uint32(bits) << 16) }

// toBF16 rounds to the nearest, halves to even.
func toBF16(x float32) uint64 {
	bits := math.Float32bits(x)
	if x != x {
		return 0x7fff
	}
	return uint64((bits + 0x7fff + bits>>16&1) >> 16)
}

func fromF16(bits uint64) float32 {
	sign, exponent, fraction := uint32(bits>>15&1)<<31, uint32(bits>>10&31), uint32(bits&1023)
	switch exponent {
	case 0:
		return math.Float32frombits(math.Float32bits(float32(fraction)*0x1p-24) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// toF16 rounds to the nearest, halves to even.
func toF16(x float32) uint64 {
	sign, size := uint64(math.Float32bits(x)>>31)<<15, math.Abs(float64(x))
	_, exponent := math.Frexp(size)
	switch exponent--; {
	case x != x:
		return 0x7fff
	case size >= 65520:
		return sign | 0x7c00
	case exponent < -14 || size == 0:
		return sign | uint64(math.RoundToEven(math.Ldexp(size, 24)))
	}
	return sign | uint64(exponent+14)<<10 + uint64(math.RoundToEven(math.Ldexp(size, 10-exponent)))
}

// truncated is the whole number towards 0, of those of 32 bits; of what is none, 0.
func truncated(x float32) uint64 {
	if x != x {
		return 0
	}
	return uint64(uint32(int32(max(math.MinInt32, min(math.MaxInt32, float64(x))))))
}

// smaller and larger are min and max of PTX: a NaN loses.
func smaller(x, y float32) float32 {
	if x != x || y < x {
		return y
	}
	return x
}

func larger(x, y float32) float32 {
	if x != x || y > x {
		return y
	}
	return x
}
