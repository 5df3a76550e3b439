package ptx

func init() {
	for mode, from := range map[string]func(lane int, b uint64) int{
		"bfly": func(lane int, b uint64) int { return lane ^ int(b&31) },
		"idx":  func(_ int, b uint64) int { return int(b & 31) },
	} {
		opcodes["shfl.sync."+mode+".b32"] = shuffle(from)
	}
	for _, t := range []string{"s", "u"} {
		less := ordered(t, 32)
		opcodes["redux.sync.min."+t+"32"] = reduce(less)
		opcodes["redux.sync.max."+t+"32"] = reduce(func(a, b uint64) bool { return less(b, a) })
	}
	opcodes["bar.warp.sync"] = func(p *parser, operands []string) step {
		need(operands, 1)
		members := p.source(operands[0])
		return func(w *warp, mask uint32) { w.together(mask, members, "a barrier of a warp") }
	}
}

// together checks that an instruction names the whole warp, and that the whole warp is
// there.
func (w *warp) together(mask uint32, members int, what string) {
	for _, v := range w.lanes(members) {
		if uint32(v) != everyone {
			fail("%s of the threads %#x of a warp", what, uint32(v))
		}
	}
	together(mask, what)
}

// shuffle gives every lane the value of another one.
func shuffle(from func(lane int, b uint64) int) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 5)
		if operands[3] != "31" {
			refuse("a shuffle within parts of the warp")
		}
		to, a, b, members := p.target(operands[0], 32), p.source(operands[1]), p.source(operands[2]), p.source(operands[4])
		return func(w *warp, mask uint32) {
			w.together(mask, members, "a shuffle")
			values := *w.lanes(a)
			for lane := range 32 {
				w.registers[to+lane] = values[from(lane, w.registers[b+lane])]
			}
		}
	}
}

// reduce gives every lane the best value of all.
func reduce(better func(a, b uint64) bool) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 3)
		to, a, members := p.target(operands[0], 32), p.source(operands[1]), p.source(operands[2])
		return func(w *warp, mask uint32) {
			w.together(mask, members, "a reduction")
			best := w.registers[a]
			for _, x := range w.lanes(a) {
				if better(x, best) {
					best = x
				}
			}
			for lane := range 32 {
				w.registers[to+lane] = best & 0xffffffff
			}
		}
	}
}
