package ptx

func init() {
	integers := []string{"s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"}
	for _, to := range integers {
		for _, from := range integers {
			if to != from {
				opcodes["cvt."+to+"."+from] = one(held(to), func(a uint64) uint64 {
					return widen(widen(a, from), to) & ones(held(to))
				})
			}
		}
	}
	for _, from := range integers[:6] {
		opcodes["cvt.rn.f32."+from] = one(32, func(a uint64) uint64 {
			if from[0] == 's' {
				return bitsOf(float32(signed(a, bitsIn(from))))
			}
			return bitsOf(float32(a & ones(bitsIn(from))))
		})
	}
	opcodes["cvt.rn.bf16.f32"] = one(16, func(a uint64) uint64 { return toBF16(f32(a)) })
	opcodes["cvt.rn.bf16x2.f32"] = two(32, func(a, b uint64) uint64 { return toBF16(f32(a))<<16 | toBF16(f32(b)) })
	opcodes["cvt.f32.bf16"] = one(32, func(a uint64) uint64 { return bitsOf(fromBF16(a & 0xffff)) })
	opcodes["cvt.f32.f16"] = one(32, func(a uint64) uint64 { return bitsOf(fromF16(a & 0xffff)) })
}

// widen is the value of the low bits, which a type makes of 64.
func widen(a uint64, t string) uint64 {
	if t[0] == 's' {
		return uint64(signed(a, bitsIn(t)))
	}
	return a & ones(bitsIn(t))
}
