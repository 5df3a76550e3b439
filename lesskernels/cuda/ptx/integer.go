package ptx

func init() {
	for _, bits := range []int{16, 32, 64} {
		name := map[int]string{16: "16", 32: "32", 64: "64"}[bits]
		all := ones(bits)
		for op, f := range map[string]func(a, b uint64) uint64{
			"add.s":    func(a, b uint64) uint64 { return a + b },
			"sub.s":    func(a, b uint64) uint64 { return a - b },
			"mul.lo.s": func(a, b uint64) uint64 { return a * b },
			"and.b":    func(a, b uint64) uint64 { return a & b },
			"or.b":     func(a, b uint64) uint64 { return a | b },
			"xor.b":    func(a, b uint64) uint64 { return a ^ b },
			"shl.b":    func(a, b uint64) uint64 { return a & all << (b & 0xffffffff) },
			"shr.u":    func(a, b uint64) uint64 { return a & all >> (b & 0xffffffff) },
			"shr.s":    func(a, b uint64) uint64 { return uint64(signed(a, bits) >> (b & 0xffffffff)) },
		} {
			opcodes[op+name] = two(bits, func(a, b uint64) uint64 { return f(a, b) & all })
		}
		opcodes["not.b"+name] = one(bits, func(a uint64) uint64 { return ^a & all })
		opcodes["neg.s"+name] = one(bits, func(a uint64) uint64 { return -a & all })
		opcodes["mad.lo.s"+name] = three(bits, func(a, b, c uint64) uint64 { return (a*b + c) & all })
		for _, t := range []string{"s", "u"} {
			less := ordered(t, bits)
			opcodes["min."+t+name] = two(bits, func(a, b uint64) uint64 {
				if less(a, b) {
					return a & all
				}
				return b & all
			})
			opcodes["max."+t+name] = two(bits, func(a, b uint64) uint64 {
				if less(a, b) {
					return b & all
				}
				return a & all
			})
		}
	}
	for op, f := range map[string]func(a, b uint64) uint64{
		"and.pred": func(a, b uint64) uint64 { return a & b },
		"or.pred":  func(a, b uint64) uint64 { return a | b },
		"xor.pred": func(a, b uint64) uint64 { return a ^ b },
	} {
		opcodes[op] = two(1, func(a, b uint64) uint64 { return f(a, b) & 1 })
	}
	opcodes["not.pred"] = one(1, func(a uint64) uint64 { return ^a & 1 })

	wideSigned := func(a, b uint64) uint64 { return uint64(signed(a, 32) * signed(b, 32)) }
	wideUnsigned := func(a, b uint64) uint64 { return a & 0xffffffff * (b & 0xffffffff) }
	opcodes["mul.wide.s32"], opcodes["mul.wide.u32"] = two(64, wideSigned), two(64, wideUnsigned)
	opcodes["mad.wide.s32"] = three(64, func(a, b, c uint64) uint64 { return wideSigned(a, b) + c })
	opcodes["mad.wide.u32"] = three(64, func(a, b, c uint64) uint64 { return wideUnsigned(a, b) + c })

	opcodes["div.s32"] = divideBy(func(a, b uint64) uint64 { return uint64(signed(a, 32)/signed(b, 32)) & 0xffffffff })
	opcodes["rem.s32"] = divideBy(func(a, b uint64) uint64 { return uint64(signed(a, 32)%signed(b, 32)) & 0xffffffff })

	opcodes["bfe.u32"] = three(32, func(a, at, n uint64) uint64 { return extract(a, at, n) })
	opcodes["bfe.s32"] = three(32, func(a, at, n uint64) uint64 {
		n &= 255
		if n == 0 || n >= 32 || at&255+n > 32 {
			fail("a signed field of %d bits at %d", n, at&255)
		}
		return uint64(signed(extract(a, at, n), int(n))) & 0xffffffff
	})
	opcodes["prmt.b32"] = three(32, permute)
	opcodes["lop3.b32"] = lookup
}

// ordered compares integers of a type.
func ordered(t string, bits int) func(a, b uint64) bool {
	if t == "s" {
		return func(a, b uint64) bool { return signed(a, bits) < signed(b, bits) }
	}
	all := ones(bits)
	return func(a, b uint64) bool { return a&all < b&all }
}

func divideBy(f func(a, b uint64) uint64) decoder {
	return two(32, func(a, b uint64) uint64 {
		if b&0xffffffff == 0 {
			fail("a division by zero")
		}
		return f(a, b)
	})
}

// extract is the field of n bits at a place.
func extract(a, at, n uint64) uint64 {
	return a & 0xffffffff >> (at & 255) & (1<<min(n&255, 32) - 1)
}

// permute picks four of the eight bytes of b:a. A selector of 8 and more picks the sign
// of a byte, repeated.
func permute(a, b, selectors uint64) uint64 {
	all := a&0xffffffff | b<<32
	out := uint64(0)
	for i := range 4 {
		s := selectors >> (4 * i) & 15
		v := all >> (8 * (s & 7)) & 255
		if s&8 != 0 {
			v = uint64(int64(int8(v))>>7) & 255
		}
		out |= v << (8 * i)
	}
	return out
}

// lookup combines three numbers bit by bit: of an immediate table, bit 4a + 2b + c.
func lookup(p *parser, operands []string) step {
	need(operands, 5)
	var terms [][3]uint64 // what turns a bit that the term wants to be 0 to 1
	table := literal(operands[4])
	for i := range uint64(8) {
		if table>>i&1 != 0 {
			terms = append(terms, [3]uint64{i>>2 - 1, i>>1&1 - 1, i&1 - 1})
		}
	}
	return three(32, func(a, b, c uint64) (out uint64) {
		for _, t := range terms {
			out |= (a ^ t[0]) & (b ^ t[1]) & (c ^ t[2])
		}
		return out & 0xffffffff
	})(p, operands[:4])
}
