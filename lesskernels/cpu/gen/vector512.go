package main

import (
	"fmt"
	"math"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vectorAVX512 writes the functions of whole rows: any length, the last lanes
// under a mask.
func vectorAVX512(k *kernels) {
	k.dot512()
	k.axpy512()
	k.max512()
	k.findMax512()
	k.above512()
	k.expSum512()
	k.scale512()
	k.swiglu512()
	k.gelu512()
	k.rmsNorm512()
	k.layerNorm512()
	k.rope512()
	k.bf16AVX512()
	k.quantize512()
	k.quantizeWide512()
}

// strip is sixteen values, or fewer under a mask, of rows that are walked
// together.
type strip struct {
	k      *kernels
	masked bool
	mask   reg.OpmaskVirtual
}

// load reads a row's values; lanes outside the mask are zero.
func (s strip) load(row reg.GPVirtual) reg.VecVirtual {
	v := s.k.ZMM()
	if s.masked {
		s.k.VMOVUPS_Z(op.Mem{Base: row}, s.mask, v)
	} else {
		s.k.VMOVUPS(op.Mem{Base: row}, v)
	}
	return v
}

// store writes a row's values.
func (s strip) store(v reg.VecVirtual, row reg.GPVirtual) {
	if s.masked {
		s.k.VMOVUPS(v, s.mask, op.Mem{Base: row})
	} else {
		s.k.VMOVUPS(v, op.Mem{Base: row})
	}
}

// strips walks rows of n values. n and the rows are used up; labels begin with name.
func (k *kernels) strips(name string, n reg.GPVirtual, rows []reg.GPVirtual, body func(strip)) {
	k.SUBQ(op.Imm(16), n)
	k.JLT(op.LabelRef(name + "Rest"))
	k.Label(name)
	body(strip{k: k})
	for _, r := range rows {
		k.ADDQ(op.Imm(64), r)
	}
	k.SUBQ(op.Imm(16), n)
	k.JGE(op.LabelRef(name))
	k.Label(name + "Rest")
	k.ADDQ(op.Imm(16), n)
	k.JE(op.LabelRef(name + "End"))
	bits, mask := k.GP64(), k.K()
	k.MOVQ(op.I32(-1), bits)
	k.BZHIQ(n, bits, bits)
	k.KMOVW(bits.As32(), mask)
	body(strip{k: k, masked: true, mask: mask})
	k.Label(name + "End")
}

// folded joins the lanes of v into its lowest.
func (k *kernels) folded(v reg.VecVirtual, join func(a, b reg.Register)) reg.Register {
	t := k.ZMM()
	k.VEXTRACTF64X4(op.Imm(1), v, t.AsY())
	join(t.AsY(), v.AsY())
	k.VEXTRACTF32X4(op.Imm(1), v.AsY(), t.AsX())
	join(t.AsX(), v.AsX())
	k.VPERMILPS(op.Imm(0b01001110), v.AsX(), t.AsX())
	join(t.AsX(), v.AsX())
	k.VPERMILPS(op.Imm(0b10110001), v.AsX(), t.AsX())
	join(t.AsX(), v.AsX())
	return v.AsX()
}

func (k *kernels) add(a, b reg.Register) { k.VADDPS(a, b, b) }
func (k *kernels) max(a, b reg.Register) { k.VMAXPS(a, b, b) }

// parameter512 is a float32 parameter in every lane.
func (k *kernels) parameter512(name string) reg.VecVirtual {
	v := k.ZMM()
	k.VBROADCASTSS(k.paramMem(name), v)
	return v
}

func (k *kernels) dot512() {
	p := k.begin("dotAVX512", "func(a, b *float32, n uintptr) float32", "returns Σ a·b.", "a", "b", "n")
	sums := k.zero512(4)
	k.SUBQ(op.Imm(64), p[2])
	k.JLT(op.LabelRef("few"))
	k.Label("many")
	for i, s := range sums {
		v := k.ZMM()
		k.VMOVUPS(op.Mem{Base: p[0], Disp: i * 64}, v)
		k.VFMADD231PS(op.Mem{Base: p[1], Disp: i * 64}, v, s)
	}
	k.ADDQ(op.U32(256), p[0])
	k.ADDQ(op.U32(256), p[1])
	k.SUBQ(op.Imm(64), p[2])
	k.JGE(op.LabelRef("many"))
	k.Label("few")
	k.ADDQ(op.Imm(64), p[2])
	k.strips("strip", p[2], p[:2], func(s strip) {
		k.VFMADD231PS(s.load(p[0]), s.load(p[1]), sums[0])
	})
	k.VADDPS(sums[1], sums[0], sums[0])
	k.VADDPS(sums[3], sums[2], sums[2])
	k.VADDPS(sums[2], sums[0], sums[0])
	k.Store(k.folded(sums[0], k.add), k.ReturnIndex(0))
	k.end()
}

func (k *kernels) axpy512() {
	p := k.begin("axpyAVX512", "func(dst *float32, a float32, x *float32, n uintptr)", "adds a·x to dst.", "dst", "x", "n")
	a := k.parameter512("a")
	k.strips("strip", p[2], p[:2], func(s strip) {
		d := s.load(p[0])
		k.VFMADD231PS(s.load(p[1]), a, d)
		s.store(d, p[0])
	})
	k.end()
}

// max512 starts with −Inf; lanes outside the mask keep their maximum.
func (k *kernels) max512() {
	p := k.begin("maxAVX512", "func(x *float32, n uintptr) float32", "returns the largest number.", "x", "n")
	peak := k.constant512(float32(math.Inf(-1)))
	k.strips("strip", p[1], p[:1], func(s strip) {
		if s.masked {
			k.VMAXPS(s.load(p[0]), peak, s.mask, peak)
		} else {
			k.VMAXPS(s.load(p[0]), peak, peak)
		}
	})
	k.Store(k.folded(peak, k.max), k.ReturnIndex(0))
	k.end()
}

// findMax512 counts sixteen values at a time in a register that remembers where each
// lane saw its maximum first. A NaN in any lane is remembered apart.
func (k *kernels) findMax512() {
	p := k.begin("findMaxAVX512", "func(peaks *float32, places *int32, x *float32, n uintptr) bool",
		"writes the largest of every sixteenth number of n, a multiple of 16, to peaks [16], where it stood first to places [16], and tells whether there was no NaN.",
		"peaks", "places", "x", "n")
	peak, place, at, step := k.constant512(float32(math.Inf(-1))), k.zero512(1)[0], k.zero512(1)[0], k.constant512(math.Float32frombits(16))
	v, more, nan := k.ZMM(), k.K(), k.K()
	strange := k.K()
	k.KXORW(strange, strange, strange)
	k.Label("strip")
	k.VMOVUPS(op.Mem{Base: p[2]}, v)
	k.VCMPPS(op.Imm(14), peak, v, more) // v > peak
	k.VCMPPS(op.Imm(3), v, v, nan)      // unordered
	k.KORW(nan, strange, strange)
	k.VMOVAPS(v, more, peak)
	k.VMOVDQA32(at, more, place)
	k.VPADDD(step, at, at)
	k.ADDQ(op.U32(64), p[2])
	k.SUBQ(op.Imm(16), p[3])
	k.JNE(op.LabelRef("strip"))
	k.VMOVUPS(peak, op.Mem{Base: p[0]})
	k.VMOVDQU32(place, op.Mem{Base: p[1]})
	clean := k.GP8()
	k.KORTESTW(strange, strange)
	k.SETEQ(clean)
	k.Store(clean, k.ReturnIndex(0))
	k.end()
}

// above512 looks at sixteen values at a time.
func (k *kernels) above512() {
	p := k.begin("aboveAVX512", "func(x *float32, n uintptr, limit float32) uintptr",
		"counts the numbers of n, a multiple of 16, before the first sixteen of which one is at least limit.", "x", "n")
	const notBelow = 13 // and no NaN
	limit, v, found, at := k.parameter512("limit"), k.ZMM(), k.K(), k.GP64()
	k.XORQ(at, at)
	k.Label("strip")
	k.VMOVUPS(op.Mem{Base: p[0], Index: at, Scale: 4}, v)
	k.VCMPPS(op.Imm(notBelow), limit, v, found)
	k.KORTESTW(found, found)
	k.JNE(op.LabelRef("found"))
	k.ADDQ(op.Imm(16), at)
	k.CMPQ(at, p[1])
	k.JB(op.LabelRef("strip"))
	k.Label("found")
	k.Store(at, k.ReturnIndex(0))
	k.end()
}

// expSum512 writes the natural form, for softmax, and that of powers of two,
// for attention, whose scores carry the factor log₂e already.
func (k *kernels) expSum512() {
	for _, natural := range []bool{true, false} {
		name, doc := "exp2SumAVX512", "replaces x by 2^(x − peak) and returns the sum."
		if natural {
			name, doc = "expSumAVX512", "replaces x by e^(x − peak) and returns the sum."
		}
		p := k.begin(name, "func(x *float32, n uintptr, peak float32) float32", doc, "x", "n")
		peak, sum, e := k.parameter512("peak"), k.zero512(1)[0], k.newExp2()
		apply := e.apply
		if natural {
			apply = k.newExp(e).apply
		}
		k.strips("strip", p[1], p[:1], func(s strip) {
			x := s.load(p[0])
			k.VSUBPS(peak, x, x)
			apply(x)
			s.store(x, p[0])
			if s.masked {
				k.VADDPS(x, sum, s.mask, sum)
			} else {
				k.VADDPS(x, sum, sum)
			}
		})
		k.Store(k.folded(sum, k.add), k.ReturnIndex(0))
		k.end()
	}
}

func (k *kernels) scale512() {
	p := k.begin("scaleAVX512", "func(x *float32, n uintptr, a float32)", "multiplies x by a.", "x", "n")
	a := k.parameter512("a")
	k.strips("strip", p[1], p[:1], func(s strip) {
		x := s.load(p[0])
		k.VMULPS(a, x, x)
		s.store(x, p[0])
	})
	k.end()
}

func (k *kernels) swiglu512() {
	p := k.begin("swigluAVX512", "func(dst, gate, up *float32, n uintptr)",
		"writes gate / (1 + e^−gate) · up.", "dst", "gate", "up", "n")
	e, one := k.newExp(k.newExp2()), k.constant512(1)
	sign := k.constant512(float32(math.Copysign(0, -1)))
	k.strips("strip", p[3], p[:3], func(s strip) {
		gate, x := s.load(p[1]), k.ZMM()
		k.VXORPS(sign, gate, x)
		e.apply(x)
		k.VADDPS(one, x, x)
		k.VDIVPS(x, gate, gate)
		k.VMULPS(s.load(p[2]), gate, gate)
		s.store(gate, p[0])
	})
	k.end()
}

// erfcCoefficients approximate ln(erfc(z)/t) + z² over t = 2/(2+z) from z = 0
// to 12, constant term first, as a polynomial in t − erfcMiddle.
const (
	erfcLow    = 2.0 / 14
	erfcMiddle = (1 + erfcLow) / 2
)

var erfcCoefficients = chebyshev(func(u float64) float64 {
	t := u + erfcMiddle
	z := 2/t - 2
	return math.Log(math.Erfc(z)/t) + z*z
}, 0, 1-erfcMiddle, 10)

// gelu512 writes the function alone.
func (k *kernels) gelu512() {
	p := k.begin("geluAVX512", "func(dst, x *float32, n uintptr)", "writes x·Φ(x).", "dst", "x", "n")
	g := k.newGELU(k.newExp(k.newExp2()))
	k.strips("strip", p[2], p[:2], func(s strip) {
		dst, _, _ := g.apply(s.load(p[1]))
		s.store(dst, p[0])
	})
	k.end()
}

// gelu holds the constants of x·Φ(x).
type gelu struct {
	exp
	sign, zero, half, two, root, middle, first reg.VecVirtual
	coefficients                               []op.Mem // too many for registers
}

// newGELU loads the constants.
func (k *kernels) newGELU(e exp) gelu {
	g := gelu{exp: e, sign: k.constant512(float32(math.Copysign(0, -1))), zero: k.constant512(0),
		half: k.constant512(0.5), two: k.constant512(2), root: k.constant512(math.Sqrt2 / 2), middle: k.constant512(erfcMiddle)}
	last := len(erfcCoefficients) - 1
	g.first = k.constant512(float32(erfcCoefficients[last]))
	g.coefficients = make([]op.Mem, last)
	for i := range g.coefficients {
		g.coefficients[i] = k.ConstData(fmt.Sprintf("erfc%d", i), op.F32(erfcCoefficients[i]))
	}
	return g
}

// apply returns gelu = max(x, 0) − |x|·tail, z = |x|/√2 and tail = erfc(z)/2.
func (g gelu) apply(x reg.VecVirtual) (dst, z, tail reg.VecVirtual) {
	k := g.k
	size, t, h := k.ZMM(), k.ZMM(), k.ZMM()
	z, tail = k.ZMM(), k.ZMM()
	k.VANDNPS(x, g.sign, size)
	k.VMULPS(g.root, size, z)
	k.VADDPS(g.two, z, t)
	k.VDIVPS(t, g.two, t)
	k.VSUBPS(g.middle, t, h) // u
	k.VMOVAPS(g.first, tail)
	for i := len(g.coefficients) - 1; i >= 0; i-- {
		k.VFMADD213PS_BCST(g.coefficients[i], h, tail)
	}
	k.VFNMADD231PS(z, z, tail)
	g.exp.apply(tail)
	k.VMULPS(t, tail, tail)
	k.VMULPS(g.half, tail, tail)
	k.VMAXPS(x, g.zero, h)
	k.VFNMADD231PS(size, tail, h)
	return h, z, tail
}
