package main

import (
	"fmt"
	"math"
	"slices"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// oddMask returns a register that keeps the upper bf16 of every pair, which is
// then its float32.
func (w width) oddMask() reg.VecVirtual { return w.integers(0xffff0000) }

// rowScores: four slots at a time, or two in the smaller registers; a load of
// bf16 numbers gives the even dimensions by a shift and the odd ones by a mask,
// and q is stored likewise.
func (w width) rowScores(group int) {
	together := w.lanes / 4
	p := w.begin(fmt.Sprintf("rowScores%d%s", group, w.isa), "func(scores *float32, stride uintptr, q *float32, k *uint16, headDim, slots uintptr)",
		fmt.Sprintf("writes scores [%d, stride] of %d queries q [headDim/%d]{[%d]{even [%d], odd [%d]}} and k [slots, headDim]; slots is a multiple of 4, headDim of %d.", group, group, 2*w.lanes, group, w.lanes, w.lanes, 2*w.lanes),
		"scores", "stride", "q", "k", "headDim", "slots")
	scores, stride, q, keys, headDim, slots := p[0], p[1], p[2], p[3], p[4], p[5]
	w.SHLQ(op.Imm(2), stride)
	row, left, query := w.GP64(), w.GP64(), w.GP64()
	w.MOVQ(headDim, row)
	w.SHLQ(op.Imm(1), row)
	odd := w.oddMask()
	rows := make([]reg.GPVirtual, together)
	for i := range rows {
		rows[i] = w.GP64()
	}
	w.Label("slots")
	sums := make([][]reg.VecVirtual, group)
	for g := range sums {
		sums[g] = w.zeros(together)
	}
	w.MOVQ(keys, rows[0])
	for i := 1; i < together; i++ {
		w.LEAQ(op.Mem{Base: rows[i-1], Index: row, Scale: 1}, rows[i])
	}
	w.MOVQ(q, query)
	w.MOVQ(headDim, left)
	w.Label("dims")
	pairs := make([][]reg.VecVirtual, together)
	for s := range pairs {
		pairs[s] = w.vecs(2)
		w.pair(op.Mem{Base: rows[s]}, odd, pairs[s][0], pairs[s][1])
		w.PREFETCHT0(op.Mem{Base: rows[s], Disp: ahead})
	}
	v := w.vec()
	for g := range group {
		for parity := range 2 {
			w.VMOVUPS(op.Mem{Base: query, Disp: (g*2 + parity) * w.bytes()}, v)
			for s := range pairs {
				w.VFMADD231PS(pairs[s][parity], v, sums[g][s])
			}
		}
	}
	w.ADDQ(op.U32(group*2*w.bytes()), query)
	for _, r := range rows {
		w.ADDQ(op.U32(w.bytes()), r)
	}
	w.SUBQ(op.U32(2*w.lanes), left)
	w.JNE(op.LabelRef("dims"))
	to := w.GP64()
	w.MOVQ(scores, to)
	for g := range group {
		if w.wide() {
			w.VMOVUPS(w.joined(sums[g], w.add), op.Mem{Base: to})
		} else {
			w.VMOVSD(w.twoSums(sums[g][0], sums[g][1]), op.Mem{Base: to})
		}
		if g < group-1 {
			w.ADDQ(stride, to)
		}
	}
	w.ADDQ(op.U32(together*4), scores)
	w.LEAQ(op.Mem{Base: keys, Index: row, Scale: uint8(together)}, keys)
	w.SUBQ(op.U32(together), slots)
	w.JNE(op.LabelRef("slots"))
	w.end()
}

// rowRegisters are the sizes of rowValues, in registers of each query: four
// where the sums, two of values, a weight and a mask fit.
func (w width) rowRegisters(group int) []int {
	if w.wide() || 4*group+4 <= 16 {
		return []int{2, 4}
	}
	return []int{2}
}

// rowValues: some columns of the value rows stay in registers over all slots,
// even and odd ones apart.
func (w width) rowValues(group, registers int) {
	columns := registers * w.lanes
	p := w.begin(fmt.Sprintf("rowValues%dx%d%s", group, columns, w.isa), "func(out, weights *float32, stride uintptr, v *uint16, headDim, slots uintptr)",
		fmt.Sprintf("writes out [%d]{[%d]{even [%d], odd [%d]}} = weights [%d, stride] · %d columns of v [slots, headDim].", group, registers/2, w.lanes, w.lanes, group, columns),
		"out", "weights", "stride", "v", "headDim", "slots")
	out, weights, stride, values, row, slots := p[0], p[1], p[2], p[3], p[4], p[5]
	w.SHLQ(op.Imm(2), stride)
	w.SHLQ(op.Imm(1), row)
	odd := w.oddMask()
	third := w.GP64()
	w.LEAQ(op.Mem{Base: stride, Index: stride, Scale: 2}, third)
	sums := make([][]reg.VecVirtual, group)
	for g := range sums {
		sums[g] = w.zeros(registers)
	}
	t := w.vec()
	w.Label("slots")
	pairs := w.vecs(registers)
	if !w.wide() { // no room for more
		pairs = slices.Repeat(w.vecs(2), registers/2)
	}
	load := func(i int) {
		at := op.Mem{Base: values, Disp: i * w.bytes()}
		w.pair(at, odd, pairs[2*i], pairs[2*i+1])
		at.Disp += ahead
		w.PREFETCHT0(at)
	}
	add := func(from, to int) {
		for g := range sums {
			m := op.Mem{Base: weights}
			switch g {
			case 1, 2:
				m.Index, m.Scale = stride, uint8(g)
			case 3:
				m.Index, m.Scale = third, 1
			}
			if !w.wide() {
				w.VBROADCASTSS(m, t)
			}
			for i := from; i < to; i++ {
				if w.wide() {
					w.VFMADD231PS_BCST(m, pairs[i], sums[g][i])
				} else {
					w.VFMADD231PS(t, pairs[i], sums[g][i])
				}
			}
		}
	}
	for i := range registers / 2 {
		load(i)
		if !w.wide() {
			add(2*i, 2*i+2)
		}
	}
	if w.wide() {
		add(0, registers)
	}
	w.ADDQ(op.Imm(4), weights)
	w.ADDQ(row, values)
	w.DECQ(slots)
	w.JNE(op.LabelRef("slots"))
	for g := range sums {
		for i, s := range sums[g] {
			w.VMOVUPS(s, op.Mem{Base: out, Disp: (g*registers + i) * w.bytes()})
		}
	}
	w.end()
}

// rowMax and rowExp2Sum are max512 and expSum512 of whole registers.
func (w width) rowMax() {
	p := w.begin("max"+w.isa, "func(x *float32, n uintptr) float32", fmt.Sprintf("returns the largest of n numbers, a multiple of %d.", w.lanes), "x", "n")
	peak := w.constant(float32(math.Inf(-1)))
	w.Label("loop")
	w.VMAXPS(op.Mem{Base: p[0]}, peak, peak)
	w.ADDQ(op.U32(w.bytes()), p[0])
	w.SUBQ(op.U32(w.lanes), p[1])
	w.JNE(op.LabelRef("loop"))
	w.Store(w.folded256(peak, w.max), w.ReturnIndex(0))
	w.end()
}

func (w width) rowExp2Sum() {
	p := w.begin("exp2Sum"+w.isa, "func(x *float32, n uintptr, peak float32) float32", fmt.Sprintf("replaces n numbers x, n a multiple of %d, by 2^(x − peak) and returns the sum.", w.lanes), "x", "n")
	peak, sum, power, x := w.parameter("peak"), w.zeros(1)[0], w.power("exp2Sum"), w.vec()
	w.Label("loop")
	w.VMOVUPS(op.Mem{Base: p[0]}, x)
	w.VSUBPS(peak, x, x)
	power(x)
	w.VMOVUPS(x, op.Mem{Base: p[0]})
	w.VADDPS(x, sum, sum)
	w.ADDQ(op.U32(w.bytes()), p[0])
	w.SUBQ(op.U32(w.lanes), p[1])
	w.JNE(op.LabelRef("loop"))
	w.Store(w.folded256(sum, w.add), w.ReturnIndex(0))
	w.end()
}
