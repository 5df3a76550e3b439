package main

import (
	"math"

	"github.com/mmcloughlin/avo/attr"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// width is the registers of one instruction set, for kernels that are written
// once for both: 16 float32 in each of 32 registers, or 8 in each of 16.
type width struct {
	*kernels
	isa   string // as in the functions' names
	lanes int
}

func avx512(k *kernels) width { return width{k, "AVX512", 16} }
func avx2(k *kernels) width   { return width{k, "AVX2", 8} }

// wide tells whether registers have 512 bits.
func (w width) wide() bool { return w.lanes == 16 }

// bytes is the size of a register.
func (w width) bytes() int { return 4 * w.lanes }

// vec is a fresh register.
func (w width) vec() reg.VecVirtual {
	if w.wide() {
		return w.ZMM()
	}
	return w.YMM()
}

// vecs are n fresh registers.
func (w width) vecs(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = w.vec()
	}
	return v
}

// zeros are n cleared registers.
func (w width) zeros(n int) []reg.VecVirtual {
	if w.wide() {
		return w.zero512(n)
	}
	return w.zero256(n)
}

// constant is a register that holds x in every lane.
func (w width) constant(x float32) reg.VecVirtual { return w.integers(math.Float32bits(x)) }

// integers is a register that holds the word in every lane.
func (w width) integers(word uint32) reg.VecVirtual {
	bits, v := w.GP32(), w.vec()
	w.MOVL(op.U32(word), bits)
	if w.wide() {
		w.VPBROADCASTD(bits, v)
	} else {
		w.VMOVD(bits, v.AsX())
		w.VPBROADCASTD(v.AsX(), v)
	}
	return v
}

// parameter is a float32 parameter in every lane.
func (w width) parameter(name string) reg.VecVirtual {
	v := w.vec()
	w.VBROADCASTSS(w.paramMem(name), v)
	return v
}

// table is x in memory, as often as a register holds it.
func (w width) table(name string, x float64) op.Mem {
	m := w.StaticGlobal(name + w.isa)
	w.DataAttributes(attr.RODATA | attr.NOPTR)
	for range w.lanes {
		w.AppendDatum(op.F32(x))
	}
	return m
}

// fmaNumber adds the number at m times v to sum; t is a register to use.
func (w width) fmaNumber(m op.Mem, v, sum, t reg.VecVirtual) {
	if w.wide() {
		w.VFMADD231PS_BCST(m, v, sum)
		return
	}
	w.VBROADCASTSS(m, t)
	w.VFMADD231PS(t, v, sum)
}

// widen loads bf16 numbers as float32.
func (w width) widen(m op.Mem, v reg.VecVirtual) {
	w.VPMOVZXWD(m, v)
	w.VPSLLD(op.Imm(16), v, v)
}

// pair loads 2·lanes bf16 numbers as float32, even and odd ones apart; odd
// keeps the upper halves of words.
func (w width) pair(m op.Mem, odd, evens, odds reg.VecVirtual) {
	if w.wide() {
		w.VPSLLD(op.Imm(16), m, evens)
		w.VPANDD(m, odd, odds)
		return
	}
	w.VMOVDQU(m, odds)
	w.VPSLLD(op.Imm(16), odds, evens)
	w.VPAND(odd, odds, odds)
}

// sums reduces each of eight registers, which are used up, to the sum of its
// lanes: store gets four at a time.
func (w width) sums(v []reg.VecVirtual, store func(at int, x reg.Register)) {
	for i := 0; i < len(v); i += 4 {
		store(i, w.joined(v[i:i+4], w.add))
	}
}
