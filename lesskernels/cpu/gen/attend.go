package main

import (
	"fmt"

	op "github.com/mmcloughlin/avo/operand"
)

// attendAVX512 writes attention over bf16 keys and values. A block of queries
// has one query in each lane: scores, softmax and sums of values are all
// vertical, and keys and values are broadcast one number at a time. A single
// query group has a dimension in each lane instead.
func attendAVX512(k *kernels) { avx512(k).attend() }

// attendAVX2 is attendAVX512 with half the width.
func attendAVX2(k *kernels) { avx2(k).attend() }

func (w width) attend() {
	w.widenAll()
	w.finite()
	w.blockScores()
	w.softmax(false)
	w.blockValues()
	for g := 1; g <= 4; g++ {
		w.rowScores(g)
	}
	for g := 1; g <= 4; g++ {
		for _, registers := range w.rowRegisters(g) {
			w.rowValues(g, registers)
		}
	}
	w.columns()
	w.transpose()
	if !w.wide() {
		w.rowMax()
		w.rowExp2Sum()
	}
}

// widenAll: a register at a time.
func (w width) widenAll() {
	p := w.begin("widen"+w.isa, "func(dst *float32, src *uint16, n uintptr)",
		fmt.Sprintf("writes n bf16 numbers, a multiple of %d, as float32.", w.lanes), "dst", "src", "n")
	v := w.vec()
	w.Label("loop")
	w.widen(op.Mem{Base: p[1]}, v)
	w.VMOVUPS(v, op.Mem{Base: p[0]})
	w.ADDQ(op.U32(w.bytes()/2), p[1])
	w.ADDQ(op.U32(w.bytes()), p[0])
	w.SUBQ(op.U32(w.lanes), p[2])
	w.JNE(op.LabelRef("loop"))
	w.end()
}

// finite: the largest without its sign, a register at a time. Those of infinities and
// NaN are the largest of all.
func (w width) finite() {
	p := w.begin("finite"+w.isa, "func(x *uint16, n uintptr) bool",
		fmt.Sprintf("tells whether all of n bf16 numbers, a multiple of %d, are finite.", w.lanes), "x", "n")
	peak, v, unsigned := w.zeros(1)[0], w.vec(), w.integers(0x7fff)
	w.Label("loop")
	w.VPMOVZXWD(op.Mem{Base: p[0]}, v)
	if w.wide() {
		w.VPANDD(unsigned, v, v)
	} else {
		w.VPAND(unsigned, v, v)
	}
	w.VPMAXSD(v, peak, peak)
	w.ADDQ(op.U32(w.bytes()/2), p[0])
	w.SUBQ(op.U32(w.lanes), p[1])
	w.JNE(op.LabelRef("loop"))
	largest, over, result := w.integers(0x7f7f), w.GP32(), w.GP8()
	if w.wide() {
		const greater = 6
		mask := w.K()
		w.VPCMPD(op.Imm(greater), largest, peak, mask)
		w.KMOVW(mask, over)
	} else {
		w.VPCMPGTD(largest, peak, peak)
		w.VMOVMSKPS(peak, over)
	}
	w.TESTL(over, over)
	w.SETEQ(result)
	w.VZEROUPPER()
	w.Store(result, w.ReturnIndex(0))
	w.RET()
}
