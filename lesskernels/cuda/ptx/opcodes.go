package ptx

import "strconv"

// opcodes are the instructions that are known, by their whole names: whatever else a
// text has is refused. The families are in files of their own.
var opcodes = map[string]decoder{}

// decoder makes a step of an instruction's operands.
type decoder func(p *parser, operands []string) step

// bitsIn is the size that a type's name ends in: 32 of s32.
func bitsIn(t string) int {
	if t == "pred" {
		return 1
	}
	n, err := strconv.Atoi(t[1:])
	if err != nil {
		panic("ptx: type " + t)
	}
	return n
}

// ones is a mask of so many bits.
func ones(bits int) uint64 {
	if bits == 64 {
		return ^uint64(0)
	}
	return 1<<bits - 1
}

// signed is the number that the low bits stand for.
func signed(x uint64, bits int) int64 { return int64(x<<(64-bits)) >> (64 - bits) }

// held is the bits of the register that a value of a type is written to: at least 16.
func held(t string) int {
	if t == "pred" {
		return 1
	}
	return max(16, bitsIn(t))
}

// one, two and three make instructions that compute each lane alone. bits are the
// target's.
func one(bits int, f func(a uint64) uint64) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 2)
		to, a := p.target(operands[0], bits), p.source(operands[1])
		return func(w *warp, mask uint32) {
			d, a := w.lanes(to), w.lanes(a)
			for i := range d {
				if mask>>i&1 != 0 {
					d[i] = f(a[i])
				}
			}
		}
	}
}

func two(bits int, f func(a, b uint64) uint64) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 3)
		to, a, b := p.target(operands[0], bits), p.source(operands[1]), p.source(operands[2])
		return func(w *warp, mask uint32) {
			d, a, b := w.lanes(to), w.lanes(a), w.lanes(b)
			for i := range d {
				if mask>>i&1 != 0 {
					d[i] = f(a[i], b[i])
				}
			}
		}
	}
}

func three(bits int, f func(a, b, c uint64) uint64) decoder {
	return func(p *parser, operands []string) step {
		need(operands, 4)
		to, a, b, c := p.target(operands[0], bits), p.source(operands[1]), p.source(operands[2]), p.source(operands[3])
		return func(w *warp, mask uint32) {
			d, a, b, c := w.lanes(to), w.lanes(a), w.lanes(b), w.lanes(c)
			for i := range d {
				if mask>>i&1 != 0 {
					d[i] = f(a[i], b[i], c[i])
				}
			}
		}
	}
}
