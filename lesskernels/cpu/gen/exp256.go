package main

import (
	"fmt"
	"math"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// power returns code that replaces x, at most 127, by 2^x. What is below the
// smallest normal number becomes zero, and a NaN stays one. The name is that of
// the constants in memory, one for each function.
func (w width) power(name string) func(x reg.VecVirtual) {
	if w.wide() {
		return w.newFractions()
	}
	e := w.newPower256(name)
	return func(x reg.VecVirtual) {
		n, keep := w.vec(), w.vec()
		e.clamp(x, keep)
		w.VROUNDPS(op.Imm(8), x, n)
		w.VSUBPS(n, x, x)
		e.scaled(x, n)
		w.VANDPS(keep, x, x)
	}
}

// power256 holds 2^x for 256 bits: the lowest x in a register, the polynomial
// in memory.
type power256 struct {
	width
	floor        reg.VecVirtual
	coefficients []op.Mem
}

func (w width) newPower256(name string) power256 {
	e := power256{width: w, floor: w.constant(-126)}
	for i, c := range exp2Coefficients {
		e.coefficients = append(e.coefficients, w.table(fmt.Sprintf("%s%d", name, i), c))
	}
	return e
}

// clamp raises x to the floor; keep masks the lanes that were not below it.
// VMAXPS returns its last source, the first operand here, where one is a NaN.
func (e power256) clamp(x, keep reg.VecVirtual) {
	const notLess = 5
	e.VCMPPS(op.Imm(notLess), e.floor, x, keep)
	e.VMAXPS(x, e.floor, x)
}

// scaled replaces x, within ±½, by 2^x·2^n: n is added to the exponent.
func (e power256) scaled(x, n reg.VecVirtual) {
	y, last := e.vec(), len(e.coefficients)-1
	e.VMOVUPS(e.coefficients[last], y)
	for i := last - 1; i >= 0; i-- {
		e.VFMADD213PS(e.coefficients[i], x, y)
	}
	e.VCVTPS2DQ(n, n)
	e.VPSLLD(op.Imm(23), n, n)
	e.VPADDD(n, y, x)
}

// gelu256 is gelu512 of whole registers: with h = erfc(|x|/√2)/2,
// gelu = max(x, 0) − |x|·h on both sides.
func (w width) gelu256() {
	p := w.begin("geluAVX2", "func(dst, x *float32, n uintptr)", "writes x·Φ(x) of n numbers, a multiple of 8.", "dst", "x", "n")
	power := w.newPower256("gelu").newNatural("gelu")
	table := func(name string, x float64) op.Mem { return w.table("gelu"+name, x) }
	two, root, half := table("Two", 2), table("Root", math.Sqrt2/2), table("Half", 0.5)
	middle := table("Middle", erfcMiddle)
	var coefficients []op.Mem
	for i, c := range erfcCoefficients {
		coefficients = append(coefficients, table(fmt.Sprintf("Erfc%d", i), c))
	}
	sign, zero := w.constant(float32(math.Copysign(0, -1))), w.zeros(1)[0]
	w.Label("loop")
	v := w.vecs(5)
	x, abs, z, t, y := v[0], v[1], v[2], v[3], v[4]
	w.VMOVUPS(op.Mem{Base: p[1]}, x)
	w.VANDNPS(x, sign, abs)
	w.VMULPS(root, abs, z)
	w.VADDPS(two, z, t)
	w.VMOVUPS(two, y)
	w.VDIVPS(t, y, t)
	u := w.vec()
	w.VSUBPS(middle, t, u)
	last := len(coefficients) - 1
	w.VMOVUPS(coefficients[last], y)
	for i := last - 1; i >= 0; i-- {
		w.VFMADD213PS(coefficients[i], u, y)
	}
	w.VFNMADD231PS(z, z, y)
	r := power(y)
	w.VMULPS(t, r, r)
	w.VMULPS(half, r, r)
	w.VMAXPS(x, zero, t)
	w.VFNMADD231PS(abs, r, t)
	w.VMOVUPS(t, op.Mem{Base: p[0]})
	w.ADDQ(op.Imm(32), p[0])
	w.ADDQ(op.Imm(32), p[1])
	w.SUBQ(op.Imm(8), p[2])
	w.JNE(op.LabelRef("loop"))
	w.end()
}
