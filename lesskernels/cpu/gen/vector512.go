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
	k.expSum512()
	k.scale512()
	k.swiglu512()
	k.gelu512()
	k.rmsNorm512()
	k.layerNorm512()
	k.rope512()
	k.bf16AVX512()
	k.quantize512()
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
}, 1-erfcMiddle, 10)

// gelu512: with h = erfc(|x|/√2)/2, gelu = max(x, 0) − |x|·h on both sides.
func (k *kernels) gelu512() {
	p := k.begin("geluAVX512", "func(dst, x *float32, n uintptr)", "writes x·Φ(x).", "dst", "x", "n")
	e := k.newExp(k.newExp2())
	sign, zero := k.constant512(float32(math.Copysign(0, -1))), k.constant512(0)
	half, two := k.constant512(0.5), k.constant512(2)
	root, middle := k.constant512(math.Sqrt2/2), k.constant512(erfcMiddle)
	last := len(erfcCoefficients) - 1
	first := k.constant512(float32(erfcCoefficients[last]))
	coefficients := make([]op.Mem, last) // too many for registers
	for i := range coefficients {
		coefficients[i] = k.ConstData(fmt.Sprintf("erfc%d", i), op.F32(erfcCoefficients[i]))
	}
	k.strips("strip", p[2], p[:2], func(s strip) {
		x := s.load(p[1])
		size, z, t, h := k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM()
		k.VANDNPS(x, sign, size)
		k.VMULPS(root, size, z)
		k.VADDPS(two, z, t)
		k.VDIVPS(t, two, t)
		k.VSUBPS(middle, t, h) // u
		y := k.ZMM()
		k.VMOVAPS(first, y)
		for i := last - 1; i >= 0; i-- {
			k.VFMADD213PS_BCST(coefficients[i], h, y)
		}
		k.VFNMADD231PS(z, z, y)
		e.apply(y)
		k.VMULPS(t, y, y)
		k.VMULPS(half, y, y)
		k.VMAXPS(x, zero, h)
		k.VFNMADD231PS(size, y, h)
		s.store(h, p[0])
	})
	k.end()
}

func (k *kernels) rmsNorm512() {
	p := k.begin("rmsNormAVX512", "func(dst, x, w *float32, n uintptr, eps float32)",
		"writes x / √(mean(x²) + eps) · w.", "dst", "x", "w", "n")
	count, again, row := k.GP64(), k.GP64(), k.GP64()
	k.MOVQ(p[3], count)
	k.MOVQ(p[3], again)
	k.MOVQ(p[1], row)
	sum := k.zero512(1)[0]
	k.strips("square", again, []reg.GPVirtual{row}, func(s strip) {
		x := s.load(row)
		k.VFMADD231PS(x, x, sum)
	})
	scale := k.inverseRoot(k.folded(sum, k.add), count)
	k.strips("strip", p[3], p[:3], func(s strip) {
		x := s.load(p[1])
		k.VMULPS(scale, x, x)
		k.VMULPS(s.load(p[2]), x, x)
		s.store(x, p[0])
	})
	k.end()
}

// inverseRoot is 1/√(sum/count + eps) in every lane.
func (k *kernels) inverseRoot(sum reg.Register, count reg.GPVirtual) reg.VecVirtual {
	n, one, scale := k.XMM(), k.GP32(), k.ZMM()
	k.VXORPS(n, n, n)
	k.VCVTSI2SSQ(count, n, n)
	k.VDIVSS(n, sum, n)
	k.VADDSS(k.paramMem("eps"), n, n)
	k.VSQRTSS(n, n, n)
	k.MOVL(op.U32(math.Float32bits(1)), one)
	k.VMOVD(one, scale.AsX())
	k.VDIVSS(n, scale.AsX(), scale.AsX())
	k.VBROADCASTSS(scale.AsX(), scale)
	return scale
}

func (k *kernels) layerNorm512() {
	p := k.begin("layerNormAVX512", "func(dst, x, w, b *float32, n uintptr, eps float32)",
		"writes (x − mean) / √(variance + eps) · w + b.", "dst", "x", "w", "b", "n")
	count, again, row := k.GP64(), k.GP64(), k.GP64()
	k.MOVQ(p[4], count)
	k.MOVQ(p[4], again)
	k.MOVQ(p[1], row)
	sum := k.zero512(1)[0]
	k.strips("sum", again, []reg.GPVirtual{row}, func(s strip) { k.VADDPS(s.load(row), sum, sum) })
	n, mean := k.XMM(), k.ZMM()
	k.VXORPS(n, n, n)
	k.VCVTSI2SSQ(count, n, n)
	k.VDIVSS(n, k.folded(sum, k.add), mean.AsX())
	k.VBROADCASTSS(mean.AsX(), mean)
	k.MOVQ(p[4], again)
	k.MOVQ(p[1], row)
	squares := k.zero512(1)[0]
	k.strips("square", again, []reg.GPVirtual{row}, func(s strip) {
		x := s.load(row)
		if s.masked { // lanes without a value stay zero
			k.VSUBPS_Z(mean, x, s.mask, x)
		} else {
			k.VSUBPS(mean, x, x)
		}
		k.VFMADD231PS(x, x, squares)
	})
	scale := k.inverseRoot(k.folded(squares, k.add), count)
	k.strips("strip", p[4], p[:4], func(s strip) {
		x := s.load(p[1])
		k.VSUBPS(mean, x, x)
		k.VMULPS(scale, x, x)
		k.VFMADD213PS(s.load(p[3]), s.load(p[2]), x)
		s.store(x, p[0])
	})
	k.end()
}

// rope512: eight pairs at a time. VFMADDSUB subtracts in even lanes and adds in
// odd ones: (a, b)·cos ∓ (b, a)·sin.
func (k *kernels) rope512() {
	p := k.begin("ropeAVX512", "func(x, cos, sin *float32, heads, half uintptr)",
		"rotates heads of 2·half values, half a multiple of 8.", "x", "cos", "sin", "heads", "half")
	at, left := k.GP64(), k.GP64()
	x, c, s, t := k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM()
	k.Label("head")
	k.XORQ(at, at)
	k.MOVQ(p[4], left)
	k.Label("pairs")
	k.VPMOVZXDQ(op.Mem{Base: p[1], Index: at, Scale: 4}, c)
	k.VPMOVZXDQ(op.Mem{Base: p[2], Index: at, Scale: 4}, s)
	k.VMOVSLDUP(c, c)
	k.VMOVSLDUP(s, s)
	k.VMOVUPS(op.Mem{Base: p[0]}, x)
	k.VPERMILPS(op.Imm(0b10110001), x, t)
	k.VMULPS(s, t, t)
	k.VFMADDSUB213PS(t, c, x)
	k.VMOVUPS(x, op.Mem{Base: p[0]})
	k.ADDQ(op.Imm(64), p[0])
	k.ADDQ(op.Imm(8), at)
	k.SUBQ(op.Imm(8), left)
	k.JNE(op.LabelRef("pairs"))
	k.DECQ(p[3])
	k.JNE(op.LabelRef("head"))
	k.end()
}

// bf16AVX512 adds 0x7fff and the lowest bit that stays, so that ties go to even;
// a NaN keeps its upper bits and is made quiet. n is a multiple of 16.
func (k *kernels) bf16AVX512() {
	p := k.begin("bf16AVX512", "func(dst *uint16, src *float32, n uintptr)",
		"rounds n numbers, a multiple of 16.", "dst", "src", "n")
	integer := func(x uint32) reg.VecVirtual { return k.constant512(math.Float32frombits(x)) }
	one, bias, quiet := integer(1), integer(0x7fff), integer(0x400000)
	x, t, nan, y := k.ZMM(), k.ZMM(), k.K(), k.YMM()
	k.Label("loop")
	k.VMOVUPS(op.Mem{Base: p[1]}, x)
	k.VCMPPS(op.Imm(3), x, x, nan) // unordered
	k.VPSRLD(op.Imm(16), x, t)
	k.VPANDD(one, t, t)
	k.VPADDD(bias, t, t)
	k.VPADDD(x, t, t)
	k.VPORD(quiet, x, nan, t)
	k.VPSRLD(op.Imm(16), t, t)
	k.VPMOVDW(t, y)
	k.VMOVDQU(y, op.Mem{Base: p[0]})
	k.ADDQ(op.Imm(64), p[1])
	k.ADDQ(op.Imm(32), p[0])
	k.SUBQ(op.Imm(16), p[2])
	k.JNE(op.LabelRef("loop"))
	k.end()
}

// quantize512 takes the peak of a block from the bits without the sign, which
// order as the numbers do and put NaN on top.
func (k *kernels) quantize512() {
	p := k.begin("quantizeAVX512", "func(dst *uint32, x *float32, tokens, blocks uintptr)",
		"writes one token's blocks of 32 values in the integer form of tiles of that many tokens.",
		"dst", "x", "tokens", "blocks")
	dst, x, stride, blocks := p[0], p[1], p[2], p[3]
	k.SHLQ(op.Imm(2), stride)
	magnitude, limit, toScale := k.constant512(math.Float32frombits(0x7fffffff)), k.constant512(127), k.constant512(1.0/127)
	ones, bits, third, record, upper := k.YMM(), k.GP32(), k.GP64(), k.GP64(), k.GP64()
	k.MOVL(op.U32(0x01010101), bits)
	k.VPBROADCASTD(bits, ones)
	k.LEAQ(op.Mem{Base: stride, Index: stride, Scale: 2}, third)
	k.IMUL3Q(op.Imm(intWords), stride, record)

	v := [2]reg.VecVirtual{k.ZMM(), k.ZMM()}
	peak, t, inverse, scale := k.ZMM(), k.ZMM(), k.ZMM(), k.XMM()
	codes, sum, first := k.YMM(), k.YMM(), k.XMM()
	k.Label("block")
	k.VMOVUPS(op.Mem{Base: x}, v[0])
	k.VMOVUPS(op.Mem{Base: x, Disp: 64}, v[1])
	k.VPANDD(magnitude, v[0], peak)
	k.VPANDD(magnitude, v[1], t)
	k.VPMAXUD(t, peak, peak)
	largest := k.folded(peak, func(a, b reg.Register) { k.VPMAXUD(a, b, b) })
	k.VMOVD(largest, bits)
	k.VDIVSS(largest, limit.AsX(), inverse.AsX())
	k.VMULSS(toScale.AsX(), largest, scale)
	k.CMPL(bits, op.U32(math.Float32bits(smallestPeak)))
	k.JB(op.LabelRef("tiny"))
	k.CMPL(bits, op.U32(0x7f800000))
	k.JAE(op.LabelRef("endless"))
	k.Label("round")
	k.VBROADCASTSS(inverse.AsX(), inverse)
	for _, r := range v {
		k.VMULPS(inverse, r, r)
		k.VCVTPS2DQ(r, r)
	}
	k.VPMOVDB(v[0], codes.AsX())
	k.VPMOVDB(v[1], sum.AsX())
	k.VINSERTI32X4(op.Imm(1), sum.AsX(), codes, codes)
	k.Label("store")
	k.VPXORD(sum, sum, sum)
	k.VPDPBUSD(codes, ones, sum)
	high := k.XMM()
	k.VEXTRACTI32X4(op.Imm(1), sum, high)
	k.VPUNPCKLQDQ(high, sum.AsX(), first)
	k.VPUNPCKHQDQ(high, sum.AsX(), high)
	k.VPADDD(high, first, first) // two lanes of each half
	k.VPSHUFD(op.Imm(0b10110001), first, high)
	k.VPADDD(high, first, first) // first, first, second, second half
	k.VPSHUFD(op.Imm(0b01001110), first, high)
	k.VPADDD(high, first, sum.AsX())
	k.LEAQ(op.Mem{Base: dst, Index: stride, Scale: 4}, upper)
	k.VEXTRACTI32X4(op.Imm(1), codes, high)
	for _, half := range []struct {
		from reg.Register
		base reg.GPVirtual
	}{{codes.AsX(), dst}, {high, upper}} {
		k.VPEXTRD(op.Imm(0), half.from, op.Mem{Base: half.base})
		k.VPEXTRD(op.Imm(1), half.from, op.Mem{Base: half.base, Index: stride, Scale: 1})
		k.VPEXTRD(op.Imm(2), half.from, op.Mem{Base: half.base, Index: stride, Scale: 2})
		k.VPEXTRD(op.Imm(3), half.from, op.Mem{Base: half.base, Index: third, Scale: 1})
	}
	k.LEAQ(op.Mem{Base: upper, Index: stride, Scale: 4}, upper) // scale, bias, sum, first bias
	k.VMOVSS(scale, op.Mem{Base: upper})
	k.VCVTDQ2PS(sum.AsX(), high)
	k.VMULSS(scale, high, high)
	k.VMOVSS(high, op.Mem{Base: upper, Index: stride, Scale: 2})
	k.VMOVD(sum.AsX(), bits)
	k.SHLL(op.Imm(3), bits)
	k.NEGL(bits)
	k.MOVL(bits, op.Mem{Base: upper, Index: stride, Scale: 1})
	k.VMOVD(first, bits)
	k.SHLL(op.Imm(3), bits)
	k.NEGL(bits)
	k.MOVL(bits, op.Mem{Base: upper, Index: third, Scale: 1})
	k.ADDQ(op.U32(128), x)
	k.ADDQ(record, dst)
	k.DECQ(blocks)
	k.JNE(op.LabelRef("block"))
	k.end()

	k.Label("tiny")
	k.VXORPS(scale, scale, scale)
	k.VPXORD(codes, codes, codes)
	k.JMP(op.LabelRef("store"))
	k.Label("endless")
	k.MOVL(op.U32(0x7fc00000), bits)
	k.VMOVD(bits, scale)
	k.VPXORD(codes, codes, codes)
	k.JMP(op.LabelRef("store"))
}

// smallestPeak is the largest value below which a block is taken for zeros.
const smallestPeak = 1e-30
