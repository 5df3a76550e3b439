package main

import (
	"math"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

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
