package main

import (
	"fmt"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transpose: as many rows as there are lanes, a square at a time.
func (w width) transpose() {
	p := w.begin("transpose"+w.isa, "func(dst, src, weights *float32, dstRow, srcRow, dstNext, srcNext, squares uintptr)",
		fmt.Sprintf("writes the transposes of squares of src [%d, %d], whose rows are first multiplied by weights [%d]. Rows lie dstRow and srcRow numbers apart, squares dstNext and srcNext.", w.lanes, w.lanes, w.lanes),
		"dst", "src", "weights", "dstRow", "srcRow", "dstNext", "srcNext", "squares")
	for _, numbers := range p[3:7] {
		w.SHLQ(op.Imm(2), numbers)
	}
	weights, at := w.vec(), w.GP64()
	w.VMOVUPS(op.Mem{Base: p[2]}, weights)
	w.Label("square")
	rows := w.vecs(w.lanes)
	w.MOVQ(p[1], at)
	for i, r := range rows {
		w.VMULPS(op.Mem{Base: at}, weights, r)
		if i < w.lanes-1 {
			w.ADDQ(p[4], at)
		}
	}
	w.MOVQ(p[0], at)
	for i, r := range w.transposed(rows) {
		w.VMOVUPS(r, op.Mem{Base: at})
		if i < w.lanes-1 {
			w.ADDQ(p[3], at)
		}
	}
	w.ADDQ(p[5], p[0])
	w.ADDQ(p[6], p[1])
	w.DECQ(p[7])
	w.JNE(op.LabelRef("square"))
	w.end()
}

// transposed returns the columns of a square of registers, which are used up.
func (w width) transposed(rows []reg.VecVirtual) []reg.VecVirtual {
	pairs := make([]reg.VecVirtual, len(rows))
	for i := 0; i < len(rows); i += 2 {
		low, high := w.vec(), w.vec()
		w.VUNPCKLPS(rows[i+1], rows[i], low)
		w.VUNPCKHPS(rows[i+1], rows[i], high)
		pairs[i], pairs[i+1] = low, high
	}
	quads := make([]reg.VecVirtual, len(rows)) // quads[4g+c] holds columns c, 4+c, … of rows 4g to 4g+3
	for i := 0; i < len(rows); i += 4 {
		for j := range 2 {
			low, high := w.vec(), w.vec()
			w.VUNPCKLPD(pairs[i+j+2], pairs[i+j], low)
			w.VUNPCKHPD(pairs[i+j+2], pairs[i+j], high)
			quads[i+2*j], quads[i+2*j+1] = low, high
		}
	}
	columns := make([]reg.VecVirtual, len(rows))
	for c := range 4 {
		if !w.wide() {
			columns[c], columns[4+c] = w.vec(), w.vec()
			w.VPERM2F128(op.Imm(0x20), quads[4+c], quads[c], columns[c])
			w.VPERM2F128(op.Imm(0x31), quads[4+c], quads[c], columns[4+c])
			continue
		}
		const even, odd = 0x88, 0xdd // the quarters of both operands
		halves := w.vecs(4)
		for i, h := range halves {
			w.VSHUFF32X4(op.Imm([]uint64{even, odd}[i/2]), quads[8*(i%2)+4+c], quads[8*(i%2)+c], h)
		}
		for i := range 4 {
			columns[4*i+c] = w.vec()
			w.VSHUFF32X4(op.Imm([]uint64{even, odd}[i/2]), halves[2*(i%2)+1], halves[2*(i%2)], columns[4*i+c])
		}
	}
	return columns
}
