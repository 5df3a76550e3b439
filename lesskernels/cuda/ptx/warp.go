package ptx

import (
	"fmt"
	"math/bits"
)

// block is a running block of threads.
type block struct {
	*kernel
	memory *memory
	params []byte
	shared shared
	index  [3]int
	grid   [3]int
	steps  uint64 // instructions of warps that ran
}

// warp is 32 threads that run in step. Where they part, one way runs to the point where
// the ways meet again, and then the other.
type warp struct {
	*block
	id        int
	registers []uint64
	alive     uint32 // threads that have not returned
	ways      []way
	copies    copies
	hit       *allocation // the last one that was read or written
}

// way is where some threads of a warp are, and where they wait for the others.
type way struct {
	at, join int
	mask     uint32
}

// A fault is what stops a kernel: an access out of bounds, a race, a barrier that not
// all threads reach.
type fault struct{ text string }

func (f fault) Error() string { return f.text }

func fail(format string, args ...any) { panic(fault{fmt.Sprintf(format, args...)}) }

const everyone = ^uint32(0)

// start puts the warp at the beginning of a block.
func (w *warp) start(b *block, id int) {
	w.block, w.id, w.alive, w.hit = b, id, everyone, nil
	w.ways = append(w.ways[:0], way{0, -1, everyone})
	w.copies.reset()
	w.registers = append(w.registers[:0], b.initial...)
	for name, at := range b.specials {
		for lane := range 32 {
			w.registers[at+lane] = uint64(w.special(name, lane))
		}
	}
}

func (w *warp) special(name string, lane int) int {
	axis := int(name[len(name)-1] - 'x')
	switch name[:len(name)-2] {
	case "%tid":
		return 32*w.id + lane
	case "%ctaid":
		return w.index[axis]
	}
	return w.grid[axis]
}

// lanes are the 32 values of a register.
func (w *warp) lanes(at int) *[32]uint64 { return (*[32]uint64)(w.registers[at:]) }

// run goes on to the next barrier, or to the end: done.
func (w *warp) run(at *int) (done bool) {
	for len(w.ways) > 0 {
		top := &w.ways[len(w.ways)-1]
		if top.mask == 0 || top.at == top.join {
			w.ways = w.ways[:len(w.ways)-1]
			continue
		}
		*at = top.at
		in := &w.code[top.at]
		mask := w.guarded(in, top.mask)
		top.at++
		w.steps++
		switch in.kind {
		case branch:
			w.branch(in, top, mask)
		case leave:
			w.alive &^= mask
			for i := range w.ways {
				w.ways[i].mask &^= mask
			}
		case barrier:
			if mask != w.alive {
				fail("a barrier that %d of %d threads of warp %d reach", bits.OnesCount32(mask), bits.OnesCount32(w.alive), w.id)
			}
			return false
		default:
			if mask != 0 {
				in.do(w, mask)
			}
		}
	}
	return true
}

// guarded are the threads, of those that are here, whose predicate lets them run an
// instruction.
func (w *warp) guarded(in *instruction, here uint32) uint32 {
	if in.guard < 0 {
		return here
	}
	mask := uint32(0)
	for i, v := range w.lanes(in.guard) {
		if v == poison && here>>i&1 != 0 {
			fail("a predicate that was never set")
		}
		mask |= uint32(v&1) << i
	}
	if in.negate {
		return here &^ mask
	}
	return here & mask
}

func (w *warp) branch(in *instruction, top *way, taken uint32) {
	stay := top.mask &^ taken
	switch {
	case taken == 0:
	case stay == 0:
		top.at = in.target
	default:
		next := top.at
		top.at = in.join // the threads meet there
		w.ways = append(w.ways, way{next, in.join, stay}, way{in.target, in.join, taken})
	}
}

// each calls f for the lanes of a mask.
func each(mask uint32, f func(lane int)) {
	for m := mask; m != 0; m &= m - 1 {
		f(bits.TrailingZeros32(m))
	}
}

// together checks that the whole warp runs an instruction that it must run together.
func together(mask uint32, what string) {
	if mask != everyone {
		fail("%s by %d of 32 threads", what, bits.OnesCount32(mask))
	}
}

// runBlock runs the warps in turn, from barrier to barrier.
func (b *block) runBlock(warps []warp) {
	at := 0
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fault:
			in := &b.code[at]
			fail("kernel %s, block %v, line %d, %s: %s", b.name, b.index, in.line, in.text, r.text)
		default:
			panic(r)
		}
	}()
	for i := range warps {
		warps[i].start(b, i)
	}
	for running := true; running; {
		ended := 0
		for i := range warps {
			if warps[i].run(&at) {
				ended++
			}
		}
		if running = ended == 0; !running && ended < len(warps) {
			fail("a barrier that %d of %d warps reach", len(warps)-ended, len(warps))
		}
		b.shared.epoch++
	}
}
