package ptx

import "math"

func init() {
	integers := []string{"s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"}
	for _, to := range integers {
		for _, from := range integers {
			if to != from {
				read, write, kept := widen(from), widen(to), ones(held(to))
				opcodes["cvt."+to+"."+from] = one(held(to), func(a uint64) uint64 { return write(read(a)) & kept })
			}
		}
	}
	for _, from := range integers[:6] {
		read := widen(from)
		number := func(a uint64) float32 { return float32(read(a)) }
		if from[0] == 's' {
			number = func(a uint64) float32 { return float32(int64(read(a))) }
		}
		opcodes["cvt.rn.f32."+from] = one(32, func(a uint64) uint64 { return bitsOf(number(a)) })
	}
	opcodes["cvt.rn.bf16.f32"] = one(16, func(a uint64) uint64 { return toBF16(f32(a)) })
	opcodes["cvt.rn.bf16x2.f32"] = two(32, func(a, b uint64) uint64 { return toBF16(f32(a))<<16 | toBF16(f32(b)) })
	opcodes["cvt.rn.f16x2.f32"] = two(32, func(a, b uint64) uint64 { return toF16(f32(a))<<16 | toF16(f32(b)) })
	opcodes["cvt.rn.f16.f32"] = one(16, func(a uint64) uint64 { return toF16(f32(a)) })
	opcodes["cvt.rzi.s32.f32"] = one(32, func(a uint64) uint64 { return truncated(f32(a)) })
	opcodes["cvt.f64.f32"] = one(64, func(a uint64) uint64 { return math.Float64bits(float64(f32(a))) })
	opcodes["cvt.f32.bf16"] = one(32, func(a uint64) uint64 { return bitsOf(fromBF16(a & 0xffff)) })
	opcodes["cvt.f32.f16"] = one(32, func(a uint64) uint64 { return bitsOf(fromF16(a & 0xffff)) })
}

// widen makes 64 bits of the low bits, as a type does.
func widen(t string) func(uint64) uint64 {
	bits := bitsIn(t)
	if t[0] == 's' {
		return func(a uint64) uint64 { return uint64(signed(a, bits)) }
	}
	low := ones(bits)
	return func(a uint64) uint64 { return a & low }
}
