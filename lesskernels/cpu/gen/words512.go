package main

import (
	"math"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The form of 13-bit codes: see PackWords in package cpu.
const (
	wordBlock = 128
	wordPeak  = 4095
	wordLines = wordBlock / 2       // of two columns
	wideBytes = 4 * (wordLines + 1) // of one token and block of activations: codes and scale
)

// mulWords512: for every block of 128 columns, integer dot products by VPDPWSSD,
// then sums[t] += d·(dot·scale[t]).
func (k *kernels) mulWords512(n int) {
	const some = 8 // lines of a round
	a := k.mulBegin(words, n, "AVX512", " by VPDPWSSD")
	sums, w, rounds := k.zero512(n), k.ZMM(), k.GP64()
	dots := make([]reg.VecVirtual, n)
	for t := range dots {
		dots[t] = k.ZMM()
	}
	k.Label("block")
	for _, dot := range dots {
		k.VPXORD(dot, dot, dot)
	}
	k.MOVQ(op.U32(wordLines/some), rounds)
	k.Label("lines")
	for line := range some {
		k.VMOVDQU32(op.Mem{Base: a.codes, Disp: line * 64}, w)
		for t, dot := range dots {
			k.VPDPWSSD_BCST(op.Mem{Base: a.x, Disp: t*wideBytes + line*4}, w, dot)
		}
	}
	k.ADDQ(op.U32(some*64), a.codes)
	k.ADDQ(op.U32(some*4), a.x)
	k.DECQ(rounds)
	k.JNE(op.LabelRef("lines"))
	k.VMOVUPS(op.Mem{Base: a.scales}, w)
	for t, dot := range dots {
		k.VCVTDQ2PS(dot, dot)
		k.VMULPS_BCST(op.Mem{Base: a.x, Disp: t * wideBytes}, dot, dot)
		k.VFMADD231PS(w, dot, sums[t])
	}
	k.ADDQ(op.U32(words.scaleBytes()), a.codes)
	k.ADDQ(op.U32(words.codeBytes()+words.scaleBytes()), a.scales)
	k.ADDQ(op.U32(n*wideBytes-wordLines*4), a.x)
	k.DECQ(a.units)
	k.JNE(op.LabelRef("block"))
	k.store512(a, sums)
}

// quantizeWide512 rounds as quantize512 does.
func (k *kernels) quantizeWide512() {
	p := k.begin("quantizeWideAVX512", "func(dst *uint32, x *float32, rows, blocks uintptr)",
		"writes one token's blocks of 128 values in the wide form of tiles of that many rows.", "dst", "x", "rows", "blocks")
	dst, x, stride, blocks := p[0], p[1], p[2], p[3]
	magnitude, limit, toScale := k.constant512(math.Float32frombits(0x7fffffff)), k.constant512(wordPeak), k.constant512(1.0/wordPeak)
	bits := k.GP32()
	k.IMUL3Q(op.U32(wideBytes), stride, stride)

	var v [wordBlock / 16]reg.VecVirtual
	peak, t, inverse, scale := k.ZMM(), k.ZMM(), k.ZMM(), k.XMM()
	k.Label("block")
	for i := range v {
		v[i] = k.ZMM()
		k.VMOVUPS(op.Mem{Base: x, Disp: i * 64}, v[i])
	}
	k.VPANDD(magnitude, v[0], peak)
	for _, r := range v[1:] {
		k.VPANDD(magnitude, r, t)
		k.VPMAXUD(t, peak, peak)
	}
	largest := k.folded(peak, func(a, b reg.Register) { k.VPMAXUD(a, b, b) })
	k.VMOVD(largest, bits)
	k.VDIVSS(largest, limit.AsX(), inverse.AsX())
	k.VMULSS(toScale.AsX(), largest, scale)
	k.CMPL(bits, op.U32(math.Float32bits(smallestPeak)))
	k.JB(op.LabelRef("tiny"))
	k.CMPL(bits, op.U32(0x7f800000))
	k.JAE(op.LabelRef("endless"))
	k.VBROADCASTSS(inverse.AsX(), inverse)
	for _, r := range v {
		k.VMULPS(inverse, r, r)
		k.VCVTPS2DQ(r, r)
	}
	k.Label("store")
	for i := 0; i < len(v); i += 2 {
		k.VPMOVDW(v[i], v[i].AsY())
		k.VPMOVDW(v[i+1], v[i+1].AsY())
		k.VINSERTI64X4(op.Imm(1), v[i+1].AsY(), v[i], v[i])
		k.VMOVDQU32(v[i], op.Mem{Base: dst, Disp: i * 32})
	}
	k.VMOVSS(scale, op.Mem{Base: dst, Disp: wordLines * 4})
	k.ADDQ(stride, dst)
	k.ADDQ(op.U32(wordBlock*4), x)
	k.DECQ(blocks)
	k.JNE(op.LabelRef("block"))
	k.end()

	k.Label("endless")
	k.MOVL(op.U32(0x7fc00000), bits)
	k.VMOVD(bits, scale)
	k.JMP(op.LabelRef("zeros"))
	k.Label("tiny")
	k.VXORPS(scale, scale, scale)
	k.Label("zeros")
	for _, r := range v {
		k.VPXORD(r, r, r)
	}
	k.JMP(op.LabelRef("store"))
}
