package ptx

// copies are a warp's asynchronous copies to shared memory. They are carried out at the
// latest moment that the program allows, when a group is waited for: a program that
// reads too early finds the copy under way.
type copies struct {
	open   []copying
	groups [][]copying
}

type copying struct {
	to    uint64
	n     int
	bytes [16]byte
}

func (c *copies) reset() { c.open, c.groups = c.open[:0], c.groups[:0] }

func init() {
	opcodes["cp.async.ca.shared.global"] = copyAsync(4, 8, 16)
	opcodes["cp.async.cg.shared.global"] = copyAsync(16)
	opcodes["cp.async.commit_group"] = func(*parser, []string) step {
		return func(w *warp, mask uint32) {
			together(mask, "a group of copies closed")
			w.copies.groups = append(w.copies.groups, w.copies.open)
			w.copies.open = nil
		}
	}
	opcodes["cp.async.wait_group"] = func(p *parser, operands []string) step {
		need(operands, 1)
		allowed := int(literal(operands[0]))
		return func(w *warp, mask uint32) {
			together(mask, "a wait for copies")
			for len(w.copies.groups) > allowed {
				for i := range w.copies.groups[0] {
					w.land(&w.copies.groups[0][i])
				}
				w.copies.groups = w.copies.groups[1:]
			}
		}
	}
}

// copyAsync starts a copy of n bytes for each thread; of the source only so many as the
// last operand tells are read, and the rest is zero.
func copyAsync(sizes ...int) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 4)
		to, toOffset := p.address(operands[0])
		from, fromOffset := p.address(operands[1])
		n, have := int(literal(operands[2])), p.source(operands[3])
		known := false
		for _, size := range sizes {
			known = known || n == size
		}
		if !known {
			refuse("a copy of %d bytes", n)
		}
		return func(w *warp, mask uint32) {
			each(mask, func(lane int) {
				c := copying{to: w.registers[to+lane] + toOffset, n: n}
				switch read := int(w.registers[have+lane]); {
				case read == n:
					copy(c.bytes[:], w.global(w.registers[from+lane]+fromOffset, n))
				case read != 0:
					fail("a copy of %d bytes of which %d are read", n, read)
				}
				_, cells := w.shared.span(c.to, n)
				w.shared.claim(w.id, c.to, cells, false)
				for i := range cells {
					cells[i].copies++
				}
				w.copies.open = append(w.copies.open, c)
			})
		}
	}
}

// land carries out a copy.
func (w *warp) land(c *copying) {
	bytes, cells := w.shared.span(c.to, c.n)
	for i := range cells {
		cells[i].copies--
	}
	w.shared.claim(w.id, c.to, cells, false)
	copy(bytes, c.bytes[:c.n])
}
