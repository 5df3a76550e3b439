package main

import (
	"math"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// exp2Coefficients approximate 2^r on [−½, ½], constant term first. They are
// the interpolation at Chebyshev nodes of degree 6: relative error below 3e-9.
var exp2Coefficients = chebyshev(math.Exp2, 0, 0.5, 6)

// fractionCoefficients approximate it on [0, 1]: relative error below 8e-8.
var fractionCoefficients = chebyshev(math.Exp2, 0.5, 0.5, 5)

// chebyshev returns the polynomial of a degree that meets f at the Chebyshev
// nodes of middle ± half, constant term first.
func chebyshev(f func(float64) float64, middle, half float64, degree int) []float64 {
	n := degree + 1
	x, y := make([]float64, n), make([]float64, n)
	for i := range x {
		x[i] = middle + half*math.Cos(math.Pi*(float64(i)+0.5)/float64(n))
		y[i] = f(x[i])
	}
	for step := 1; step < n; step++ { // Newton's divided differences
		for i := n - 1; i >= step; i-- {
			y[i] = (y[i] - y[i-1]) / (x[i] - x[i-step])
		}
	}
	p := make([]float64, n) // Horner, outermost factor first
	for i := n - 1; i >= 0; i-- {
		for j := n - 1; j > 0; j-- {
			p[j] = p[j-1] - x[i]*p[j]
		}
		p[0] = y[i] - x[i]*p[0]
	}
	return p
}

// constant512 returns a register that holds x in every lane.
func (k *kernels) constant512(x float32) reg.VecVirtual {
	bits, v := k.GP32(), k.ZMM()
	k.MOVL(op.U32(math.Float32bits(x)), bits)
	k.VPBROADCASTD(bits, v)
	return v
}

// exp2 holds the constants of 2^x in registers.
type exp2 struct {
	k            *kernels
	floor        reg.VecVirtual
	coefficients []reg.VecVirtual
}

// newExp2 loads the constants.
func (k *kernels) newExp2() exp2 {
	e := exp2{k: k, floor: k.constant512(-150)} // 2^−150 rounds to zero
	for _, c := range exp2Coefficients {
		e.coefficients = append(e.coefficients, k.constant512(float32(c)))
	}
	return e
}

// apply replaces x by 2^x: x = n + r, 2^r by the polynomial, scaled by 2^n.
// A NaN stays one: VMAXPS returns its last source, the first operand here.
func (e exp2) apply(x reg.VecVirtual) {
	k, n := e.k, e.k.ZMM()
	k.VMAXPS(x, e.floor, x)
	k.VRNDSCALEPS(op.Imm(8), x, n)
	k.VSUBPS(n, x, x)
	e.polynomial(x, n)
}

// polynomial replaces x, within ±½, by 2^x·2^n.
func (e exp2) polynomial(x, n reg.VecVirtual) {
	k, y := e.k, e.k.ZMM()
	last := len(e.coefficients) - 1
	k.VMOVAPS(e.coefficients[last], y)
	for i := last - 1; i >= 0; i-- {
		k.VFMADD213PS(e.coefficients[i], x, y)
	}
	k.VSCALEFPS(n, y, x)
}

// newFractions returns code that replaces x by 2^x: what is beyond the whole number
// below x by the polynomial, scaled by that whole number, for which −∞ will do.
func (k *kernels) newFractions() func(x reg.VecVirtual) {
	var coefficients []reg.VecVirtual
	for _, c := range fractionCoefficients {
		coefficients = append(coefficients, k.constant512(float32(c)))
	}
	last := len(coefficients) - 1
	return func(x reg.VecVirtual) {
		const lessFloor = 1
		fraction, y := k.ZMM(), k.ZMM()
		k.VREDUCEPS(op.Imm(lessFloor), x, fraction)
		k.VMOVAPS(coefficients[last], y)
		for i := last - 1; i >= 0; i-- {
			k.VFMADD213PS(coefficients[i], fraction, y)
		}
		k.VSCALEFPS(x, y, x)
	}
}

// exp holds the constants of e^x beside those of 2^x.
type exp struct {
	exp2
	low, high, upper, lower reg.VecVirtual
}

// newExp loads the constants: log₂e in two parts, and the range of x.
func (k *kernels) newExp(e exp2) exp {
	upper := float32(math.Log2E)
	return exp{e, k.constant512(-104), k.constant512(89), k.constant512(upper), k.constant512(float32(math.Log2E - float64(upper)))}
}

// apply replaces x by e^x: x·log₂e = n + r with r to full precision.
func (e exp) apply(x reg.VecVirtual) {
	k, n, r := e.k, e.k.ZMM(), e.k.ZMM()
	k.VMAXPS(x, e.low, x)
	k.VMINPS(x, e.high, x)
	k.VMULPS(e.upper, x, n)
	k.VRNDSCALEPS(op.Imm(8), n, n)
	k.VMOVAPS(n, r)
	k.VFMSUB231PS(e.upper, x, r) // x·upper − n
	k.VFMADD231PS(e.lower, x, r)
	k.VMOVAPS(r, x)
	e.polynomial(x, n)
}
