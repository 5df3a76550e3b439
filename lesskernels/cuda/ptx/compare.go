package ptx

func init() {
	for _, t := range []string{"b16", "s16", "u16", "b32", "s32", "u32", "b64", "s64", "u64"} {
		bits := bitsIn(t)
		less, all := ordered(t[:1], bits), ones(bits)
		equal := func(a, b uint64) bool { return a&all == b&all }
		opcodes["setp.eq."+t] = test(equal)
		opcodes["setp.ne."+t] = test(func(a, b uint64) bool { return !equal(a, b) })
		if t[0] != 'b' {
			opcodes["setp.lt."+t] = test(less)
			opcodes["setp.le."+t] = test(func(a, b uint64) bool { return !less(b, a) })
			opcodes["setp.gt."+t] = test(func(a, b uint64) bool { return less(b, a) })
			opcodes["setp.ge."+t] = test(func(a, b uint64) bool { return !less(a, b) })
		}
	}
	for op, f := range map[string]func(a, b float32) bool{ // false where one is NaN, but for the last three
		"setp.eq.f32":  func(a, b float32) bool { return a == b },
		"setp.ne.f32":  func(a, b float32) bool { return a < b || a > b },
		"setp.lt.f32":  func(a, b float32) bool { return a < b },
		"setp.le.f32":  func(a, b float32) bool { return a <= b },
		"setp.gt.f32":  func(a, b float32) bool { return a > b },
		"setp.ge.f32":  func(a, b float32) bool { return a >= b },
		"setp.neu.f32": func(a, b float32) bool { return a != b },
		"setp.leu.f32": func(a, b float32) bool { return !(a > b) },
		"setp.nan.f32": func(a, b float32) bool { return a != a || b != b },
	} {
		opcodes[op] = test(func(a, b uint64) bool { return f(f32(a), f32(b)) })
	}
	opcodes["setp.eq.f16"] = test(func(a, b uint64) bool { return fromF16(a&0xffff) == fromF16(b&0xffff) })
	for _, t := range []string{"b16", "b32", "b64", "f32"} {
		all := ones(bitsIn(t))
		opcodes["selp."+t] = three(bitsIn(t), func(a, b, choose uint64) uint64 {
			if choose == poison {
				fail("a predicate that was never set")
			}
			if choose&1 != 0 {
				return a & all
			}
			return b & all
		})
	}
}

// test makes a comparison that writes a predicate.
func test(f func(a, b uint64) bool) decoder {
	return two(1, func(a, b uint64) uint64 {
		if f(a, b) {
			return 1
		}
		return 0
	})
}
