package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The tail Φ(−z) from z = 0 on, in a polynomial for each of fifteen intervals: the error is
// below 5e-9. What is beyond the last, below 1e-8, is 0.
const (
	tailIntervals = 15
	tailInterval  = 0.375
	tailDegree    = 5
)

// mapGELU512 is gelu512 for feature maps, which are rounded to bf16 and need no digits of
// what is far below 1: a table takes the place of the division and of the power.
func (k *kernels) mapGELU512() {
	p := k.begin("mapGELUAVX512", "func(dst, x *float32, n uintptr)", "writes x·Φ(x) to an error of 1e-7.", "dst", "x", "n")
	tables := k.tails()
	sign, zero := k.constant512(float32(math.Copysign(0, -1))), k.constant512(0)
	scale, last := k.constant512(1/tailInterval), k.constant512(tailIntervals)
	k.strips("strip", p[2], p[:2], func(s strip) {
		const lessFloor = 1
		x, size, at, interval, c, tail := s.load(p[1]), k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM()
		k.VANDNPS(x, sign, size)
		k.VMULPS(scale, size, at)
		k.VMINPS(last, at, at)
		k.VCVTTPS2DQ(at, interval)
		k.VREDUCEPS(op.Imm(lessFloor), at, at)
		k.VPERMPS(tables[tailDegree], interval, tail)
		for d := tailDegree - 1; d >= 0; d-- {
			k.VPERMPS(tables[d], interval, c)
			k.VFMADD213PS(c, at, tail)
		}
		k.VMAXPS(x, zero, x)
		k.VFNMADD231PS(size, tail, x)
		s.store(x, p[0])
	})
	k.end()
}

// tails returns registers that hold a coefficient of all intervals each.
func (k *kernels) tails() (tables [tailDegree + 1]reg.VecVirtual) {
	var polynomials [tailIntervals + 1][]float64
	for i := range tailIntervals {
		polynomials[i] = chebyshev(func(x float64) float64 {
			return math.Erfc((float64(i)+x)*tailInterval/math.Sqrt2) / 2
		}, 0.5, 0.5, tailDegree)
	}
	polynomials[tailIntervals] = make([]float64, tailDegree+1)
	for d := range tables {
		m := k.StaticGlobal(fmt.Sprintf("tail%d", d))
		k.DataAttributes(attr.RODATA | attr.NOPTR)
		for _, p := range polynomials {
			k.AppendDatum(op.F32(p[d]))
		}
		tables[d] = k.ZMM()
		k.VMOVUPS(m, tables[d])
	}
	return tables
}
