package main

import (
	"math"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

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
