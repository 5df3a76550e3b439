package ptx

func init() {
	for _, t := range []string{"b16", "u16", "b32", "u32", "b64", "u64", "pred"} {
		opcodes["mov."+t] = move(bitsIn(t))
	}
	for _, space := range []string{"shared", "global"} {
		for _, t := range []string{"b8", "b16", "b32", "b64"} {
			for suffix, n := range map[string]int{"": 1, ".v2": 2, ".v4": 4} {
				if n*bitsIn(t) > 128 {
					continue
				}
				opcodes["ld."+space+suffix+"."+t] = loads(space == "shared", bitsIn(t), n)
				opcodes["st."+space+suffix+"."+t] = stores(space == "shared", bitsIn(t), n)
			}
		}
	}
	opcodes["ld.param.b32"] = parameter(32, 32, false)
	opcodes["ld.param.b64"] = parameter(64, 64, false)
	opcodes["ld.param.s32"] = parameter(64, 32, true)
}

// move copies, packs {a, b} into one register, or unpacks one into {a, b}.
func move(bits int) decoder {
	all := ones(bits)
	whole := one(bits, func(a uint64) uint64 { return a & all })
	return func(p *parser, operands []string) step {
		need(operands, 2)
		to, from := members(operands[0]), members(operands[1])
		parts := max(len(to), len(from))
		if parts == 1 {
			return whole(p, operands)
		}
		if len(to) > 1 && len(from) > 1 || bits%parts != 0 {
			refuse("a move of %d values to %d", len(from), len(to))
		}
		size := bits / parts
		if len(from) > 1 {
			sources, target := p.sources(operands[1]), p.target(to[0], bits)
			return func(w *warp, mask uint32) {
				each(mask, func(lane int) {
					v := uint64(0)
					for i, from := range sources {
						v |= w.registers[from+lane] & ones(size) << (size * i)
					}
					w.registers[target+lane] = v
				})
			}
		}
		targets, source := p.targets(operands[0], size), p.source(from[0])
		return func(w *warp, mask uint32) {
			each(mask, func(lane int) {
				v := w.registers[source+lane]
				for i, to := range targets {
					w.registers[to+lane] = v >> (size * i) & ones(size)
				}
			})
		}
	}
}

// parameter reads a parameter of the kernel to a register of so many bits; of a smaller
// one the sign fills the register.
func parameter(to, size int, sign bool) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 2)
		name := operands[1]
		from, ok := p.params[name[1:len(name)-1]]
		if !ok || from.size*8 != size {
			refuse("no parameter %s of %d bits", name, size)
		}
		target := p.target(operands[0], to)
		return func(w *warp, mask uint32) {
			v := load(w.params[from.offset:], from.size)
			if sign {
				v = uint64(signed(v, size))
			}
			each(mask, func(lane int) { w.registers[target+lane] = v })
		}
	}
}

func loads(inShared bool, bits, n int) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 2)
		targets := p.widerTargets(operands[0], max(16, bits))
		base, offset := p.address(operands[1])
		if len(targets) != n {
			refuse("%d registers for %d values", len(targets), n)
		}
		size := bits / 8
		return func(w *warp, mask uint32) {
			each(mask, func(lane int) {
				address := w.registers[base+lane] + offset
				var b []byte
				if inShared {
					b = w.shared.read(w.id, address, n*size)
				} else {
					b = w.global(address, n*size)
				}
				for i, to := range targets {
					w.registers[to+lane] = load(b[i*size:], size)
				}
			})
		}
	}
}

func stores(inShared bool, bits, n int) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 2)
		base, offset := p.address(operands[0])
		sources := p.sources(operands[1])
		if len(sources) != n {
			refuse("%d registers for %d values", len(sources), n)
		}
		size := bits / 8
		return func(w *warp, mask uint32) {
			each(mask, func(lane int) {
				var data [16]byte
				for i, from := range sources {
					store(data[i*size:], size, w.registers[from+lane])
				}
				address := w.registers[base+lane] + offset
				if inShared {
					w.shared.write(w.id, address, data[:n*size])
				} else {
					copy(w.global(address, n*size), data[:n*size])
				}
			})
		}
	}
}
