package main

import (
	"fmt"
	"math"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// productRows is the most rows of a tile of a product: with four registers a
// row, 24 sums leave eight of the 32 registers.
const productRows = 6

// trainAVX512 writes what only training needs.
func trainAVX512(k *kernels) {
	for rows := 1; rows <= productRows; rows++ {
		for _, vectors := range []int{1, 4} {
			k.product512(rows, vectors)
		}
	}
	k.geluSlope512()
}

// product512: c[i] += Σ a[i, l]·b[l] for a tile of rows; strides are in bytes.
func (k *kernels) product512(rows, vectors int) {
	p := k.begin(fmt.Sprintf("product%dx%dAVX512", rows, vectors),
		"func(c *float32, cRow uintptr, a *float32, aRow, aCol uintptr, b *float32, bRow, n uintptr)",
		fmt.Sprintf("adds the product of %d rows and %d columns over n to c; strides in bytes.", rows, 16*vectors),
		"c", "cRow", "a", "aRow", "aCol", "b", "bRow", "n")
	c, cRow, a, aRow, aCol, b, bRow, n := p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]
	sums := make([][]reg.VecVirtual, rows)
	at := k.GP64()
	k.MOVQ(c, at)
	for i := range sums {
		for v := range vectors {
			sum := k.ZMM()
			k.VMOVUPS(op.Mem{Base: at, Disp: 64 * v}, sum)
			sums[i] = append(sums[i], sum)
		}
		if i < rows-1 {
			k.ADDQ(cRow, at)
		}
	}
	// Rows 0–2 of a are addressed from a, rows 3–5 from three rows further.
	second := k.GP64()
	if rows > 3 {
		k.LEAQ(op.Mem{Base: a, Index: aRow, Scale: 2}, second)
		k.ADDQ(aRow, second)
	}
	weight := make([]reg.VecVirtual, vectors)
	for v := range weight {
		weight[v] = k.ZMM()
	}
	k.Label("step")
	for v, w := range weight {
		k.VMOVUPS(op.Mem{Base: b, Disp: 64 * v}, w)
	}
	for i, row := range sums {
		base := op.Mem{Base: a}
		if i >= 3 {
			base.Base = second
		}
		if i%3 > 0 {
			base.Index, base.Scale = aRow, uint8(i%3)
		}
		x := k.ZMM()
		k.VBROADCASTSS(base, x)
		for v, sum := range row {
			k.VFMADD231PS(weight[v], x, sum)
		}
	}
	k.ADDQ(aCol, a)
	if rows > 3 {
		k.ADDQ(aCol, second)
	}
	k.ADDQ(bRow, b)
	k.DECQ(n)
	k.JNE(op.LabelRef("step"))
	for i, row := range sums {
		for v, sum := range row {
			k.VMOVUPS(sum, op.Mem{Base: c, Disp: 64 * v})
		}
		if i < rows-1 {
			k.ADDQ(cRow, c)
		}
	}
	k.end()
}

// geluSlope512 is gelu512 with the derivative Φ(x) + x·e^(−x²/2)/√2π beside it.
func (k *kernels) geluSlope512() {
	p := k.begin("geluSlopeAVX512", "func(dst, slope, x *float32, n uintptr)", "writes x·Φ(x) and its derivative.", "dst", "slope", "x", "n")
	e := k.newExp(k.newExp2())
	g := k.newGELU(e)
	half, density := k.constant512(0.5), k.ConstData("density", op.F32(1/math.Sqrt(2*math.Pi)))
	k.strips("strip", p[3], p[:3], func(s strip) {
		x := s.load(p[2])
		dst, z, tail := g.apply(x)
		s.store(dst, p[0])
		// Φ = ½ + copysign(½ − tail, x)
		k.VSUBPS(tail, half, tail)
		sign := k.ZMM()
		k.VPANDD(g.sign, x, sign)
		k.VPORD(sign, tail, tail)
		k.VADDPS(half, tail, tail)
		k.VMULPS(z, z, z)
		k.VXORPS(g.sign, z, z)
		e.apply(z)
		k.VMULPS(x, z, z)
		k.VFMADD231PS_BCST(density, z, tail)
		s.store(tail, p[1])
	})
	k.end()
}
