package main

import (
	"fmt"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// columns writes the statistics of slots, as sums and as maxima.
func (w width) columns() {
	for _, r := range []reduction{{"Sums", "sum", w.add}, {"Peaks", "maximum", w.maxBits}} {
		w.blockColumns(r)
		w.reduceColumns(r)
		w.joinColumns(r)
	}
	w.weightColumns()
}

// reduction joins weights: b becomes a and b.
type reduction struct {
	name, word string
	join       func(a, b reg.Register)
}

// maxBits is the maximum of numbers that are not negative, as words, among
// which a NaN is the largest.
func (w width) maxBits(a, b reg.Register) { w.VPMAXUD(a, b, b) }

// blockColumns: each lane is a row, whose log-sum-exp in powers of two is known.
func (w width) blockColumns(r reduction) {
	name := "block" + r.name + w.isa
	p := w.begin(name, "func(columns, scores, lse *float32, visible *int32, first int32, slots uintptr)",
		fmt.Sprintf("joins columns [slots, %d] with the weights 2^(scores − lse), by the %s; lane i sees the slots below visible[i], where the first one's number is first.", w.lanes, r.word),
		"columns", "scores", "lse", "visible", "slots")
	columns, scores, lse, visible, slots := p[0], p[1], p[2], p[3], p[4]
	power, hide, zero := w.power("block"+r.name), w.newHider(visible, "first"), w.zeros(1)[0]
	less := w.vec()
	w.VMOVUPS(op.Mem{Base: lse}, less)
	w.Label("slots")
	for i := range w.lanes / 8 {
		x, at := w.vec(), i*w.bytes()
		w.VMOVUPS(op.Mem{Base: scores, Disp: at}, x)
		w.VSUBPS(less, x, x)
		power(x)
		hide.apply(x, zero)
		old := w.vec()
		w.VMOVUPS(op.Mem{Base: columns, Disp: at}, old)
		r.join(old, x)
		w.VMOVUPS(x, op.Mem{Base: columns, Disp: at})
	}
	w.ADDQ(op.U32(w.lanes/8*w.bytes()), columns)
	w.ADDQ(op.U32(w.lanes/8*w.bytes()), scores)
	w.SUBQ(op.U32(w.lanes/8), slots)
	w.JNE(op.LabelRef("slots"))
	w.end()
}

// reduceColumns: four slots at a time.
func (w width) reduceColumns(r reduction) {
	p := w.begin("reduce"+r.name+w.isa, "func(dst, columns *float32, slots uintptr)",
		fmt.Sprintf("writes dst [slots], the %s of every slot of columns [slots, %d]; slots is a multiple of 4.", r.word, w.lanes),
		"dst", "columns", "slots")
	w.Label("slots")
	v := w.vecs(4)
	for i, x := range v {
		w.VMOVUPS(op.Mem{Base: p[1], Disp: i * w.bytes()}, x)
	}
	w.VMOVUPS(w.joined(v, r.join), op.Mem{Base: p[0]})
	w.ADDQ(op.Imm(16), p[0])
	w.ADDQ(op.U32(4*w.bytes()), p[1])
	w.SUBQ(op.Imm(4), p[2])
	w.JNE(op.LabelRef("slots"))
	w.end()
}

// joinColumns: a register at a time.
func (w width) joinColumns(r reduction) {
	p := w.begin("join"+r.name+w.isa, "func(dst, x *float32, n uintptr)",
		fmt.Sprintf("joins n numbers of dst with x, by the %s; n is a multiple of %d.", r.word, w.lanes), "dst", "x", "n")
	old, x := w.vec(), w.vec()
	w.Label("loop")
	w.VMOVUPS(op.Mem{Base: p[0]}, old)
	w.VMOVUPS(op.Mem{Base: p[1]}, x)
	r.join(old, x)
	w.VMOVUPS(x, op.Mem{Base: p[0]})
	w.ADDQ(op.U32(w.bytes()), p[0])
	w.ADDQ(op.U32(w.bytes()), p[1])
	w.SUBQ(op.U32(w.lanes), p[2])
	w.JNE(op.LabelRef("loop"))
	w.end()
}

// weightColumns: each lane is a row, whose weights are known but for a factor.
func (w width) weightColumns() {
	p := w.begin("weightColumns"+w.isa, "func(columns, weights, peaks, lse *float32, slots uintptr)",
		fmt.Sprintf("adds to columns [slots, %d] weights [slots, %d] times 2^(peaks − lse), both [%d]; slots is a multiple of 4.", w.lanes, w.lanes, w.lanes),
		"columns", "weights", "peaks", "lse", "slots")
	columns, weights, slots := p[0], p[1], p[4]
	factor, power := w.vec(), w.power("weightColumns")
	w.VMOVUPS(op.Mem{Base: p[2]}, factor)
	w.VSUBPS(op.Mem{Base: p[3]}, factor, factor)
	power(factor)
	sums := w.vecs(4)
	w.Label("slots")
	for i, x := range sums {
		w.VMOVUPS(op.Mem{Base: columns, Disp: i * w.bytes()}, x)
	}
	for i, x := range sums {
		w.VFMADD231PS(op.Mem{Base: weights, Disp: i * w.bytes()}, factor, x)
	}
	for i, x := range sums {
		w.VMOVUPS(x, op.Mem{Base: columns, Disp: i * w.bytes()})
	}
	w.ADDQ(op.U32(4*w.bytes()), columns)
	w.ADDQ(op.U32(4*w.bytes()), weights)
	w.SUBQ(op.Imm(4), slots)
	w.JNE(op.LabelRef("slots"))
	w.end()
}
