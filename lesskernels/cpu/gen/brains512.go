package main

import (
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// attendBF16 writes what attention of a block of queries does with half the
// instructions of float32 where a processor multiplies pairs of bf16: scores are
// products of keys and queries rounded to 16 bits, and values are weighted by bf16.
func attendBF16(k *kernels) {
	w := avx512(k)
	w.isa = "BF16"
	w.wordKeys()
	w.wordQueries()
	w.wordScores()
	w.softmax(true)
	w.pairValues()
	w.brainValues()
}

// wordNorm is what the norm of a rounded key or query becomes: a dot product of two
// then fits 32 bits whatever the head's size (Cauchy and Schwarz), and a number 16.
const wordNorm = 32700

// leastNorm stands for the norm of a row of zeros.
const leastNorm = 1e-30

// wordScales turns norms into what rows are multiplied by and what their rounded
// numbers are. A NaN stays one. least and size hold the constants of those names.
func (w width) wordScales(norm, inverse, least, size reg.Register) {
	w.VMAXPS(norm, least, norm)
	w.VDIVPS(norm, size, inverse)
	w.VDIVPS(size, norm, norm)
}

// wordKeys: four slots at a time, first their norms and then their numbers.
func (w width) wordKeys() {
	p := w.begin("wordKeys"+w.isa, "func(dst *uint32, scales *float32, k *uint16, headDim, slots uintptr)",
		"rounds keys k [slots, headDim] to words [slots, headDim/2]{even, odd int16} times scales [slots]; slots is a multiple of 4, headDim of 16.",
		"dst", "scales", "k", "headDim", "slots")
	dst, scales, keys, headDim, slots := p[0], p[1], p[2], p[3], p[4]
	inverses, least, size := w.AllocLocal(16), w.constant(leastNorm).AsX(), w.constant(wordNorm).AsX()
	row, left := w.GP64(), w.GP64()
	w.MOVQ(headDim, row)
	w.SHLQ(op.Imm(1), row)
	rows := make([]reg.GPVirtual, 4)
	begin := func() {
		w.MOVQ(keys, rows[0])
		for i := 1; i < 4; i++ {
			w.LEAQ(op.Mem{Base: rows[i-1], Index: row, Scale: 1}, rows[i])
		}
		w.MOVQ(headDim, left)
	}
	next := func(label string) {
		for _, r := range rows {
			w.ADDQ(op.Imm(32), r)
		}
		w.SUBQ(op.Imm(16), left)
		w.JNE(op.LabelRef(label))
	}
	for i := range rows {
		rows[i] = w.GP64()
	}
	w.Label("slots")
	begin()
	sums, v := w.zeros(4), w.vec()
	w.Label("norms")
	for i, s := range sums {
		w.widen(op.Mem{Base: rows[i]}, v)
		w.VFMADD231PS(v, v, s)
	}
	next("norms")
	norms, inverse := w.joined(sums, w.add), w.XMM()
	w.VSQRTPS(norms, norms)
	w.wordScales(norms, inverse, least, size)
	w.VMOVUPS(norms, op.Mem{Base: scales})
	w.VMOVUPS(inverse, inverses)
	factors := w.vecs(4)
	for i, f := range factors {
		w.VBROADCASTSS(inverses.Offset(4*i), f)
	}
	begin()
	to := w.GP64()
	w.MOVQ(dst, to)
	w.Label("round")
	for i, f := range factors {
		w.widen(op.Mem{Base: rows[i]}, v)
		w.VMULPS(f, v, v)
		w.VCVTPS2DQ(v, v)
		m := op.Mem{Base: to}
		if i == 3 {
			third := w.GP64()
			w.LEAQ(op.Mem{Base: to, Index: row, Scale: 2}, third)
			m = op.Mem{Base: third, Index: row, Scale: 1}
		} else if i > 0 {
			m.Index, m.Scale = row, uint8(i)
		}
		w.VPMOVSDW(v, m)
	}
	w.ADDQ(op.Imm(32), to)
	next("round")
	w.LEAQ(op.Mem{Base: dst, Index: row, Scale: 4}, dst)
	w.LEAQ(op.Mem{Base: keys, Index: row, Scale: 4}, keys)
	w.ADDQ(op.Imm(16), scales)
	w.SUBQ(op.Imm(4), slots)
	w.JNE(op.LabelRef("slots"))
	w.end()
}

// wordQueries: a query in each lane.
func (w width) wordQueries() {
	p := w.begin("wordQueries"+w.isa, "func(dst *uint32, scales, q *float32, headDim uintptr)",
		"rounds queries q [headDim, 16] to words [headDim/2, 16]{even, odd int16} times scales [16]; headDim is even.",
		"dst", "scales", "q", "headDim")
	dst, scales, q, headDim := p[0], p[1], p[2], p[3]
	at, left := w.GP64(), w.GP64()
	w.MOVQ(q, at)
	w.MOVQ(headDim, left)
	norms, v, inverse := w.zeros(1)[0], w.vec(), w.vec()
	w.Label("norms")
	w.VMOVUPS(op.Mem{Base: at}, v)
	w.VFMADD231PS(v, v, norms)
	w.ADDQ(op.Imm(64), at)
	w.DECQ(left)
	w.JNE(op.LabelRef("norms"))
	w.VSQRTPS(norms, norms)
	w.wordScales(norms, inverse, w.constant(leastNorm), w.constant(wordNorm))
	w.VMOVUPS(norms, op.Mem{Base: scales})
	low, odd := w.integers(0xffff), w.vec()
	w.Label("round")
	w.VMULPS(op.Mem{Base: q}, inverse, v)
	w.VMULPS(op.Mem{Base: q, Disp: 64}, inverse, odd)
	w.VCVTPS2DQ(v, v)
	w.VCVTPS2DQ(odd, odd)
	w.VPANDD(low, v, v)
	w.VPSLLD(op.Imm(16), odd, odd)
	w.VPORD(odd, v, v)
	w.VMOVUPS(v, op.Mem{Base: dst})
	w.ADDQ(op.U32(128), q)
	w.ADDQ(op.Imm(64), dst)
	w.SUBQ(op.Imm(2), headDim)
	w.JNE(op.LabelRef("round"))
	w.end()
}

// wordScores: blockScores with two dimensions in each word.
func (w width) wordScores() {
	p := w.begin("wordScores"+w.isa, "func(scores *float32, q *uint32, qScales *float32, k *uint32, kScales *float32, headDim, slots uintptr)",
		"writes scores [slots, 16] = k [slots, headDim/2] · q [headDim/2, 16] of words, times kScales [slots] and qScales [16]; slots is a multiple of 12, headDim of 8.",
		"scores", "q", "qScales", "k", "kScales", "headDim", "slots")
	scores, q, keys, kScales, headDim, slots := p[0], p[1], p[3], p[4], p[5], p[6]
	qScale := w.vec()
	w.VMOVUPS(op.Mem{Base: p[2]}, qScale)
	row := w.GP64()
	w.MOVQ(headDim, row)
	w.SHLQ(op.Imm(1), row)
	w.blockOf12(row, keys, slots, func(slot func(i, disp int) op.Mem, step func(bytes int)) {
		at, left := w.GP64(), w.GP64()
		sums, v := w.zeros(12), w.vec()
		w.MOVQ(q, at)
		w.MOVQ(headDim, left)
		w.Label("dims")
		for d := range 4 {
			w.VMOVUPS(op.Mem{Base: at, Disp: d * 64}, v)
			for i, s := range sums {
				w.VPDPWSSD_BCST(slot(i, d*4), v, s)
			}
		}
		step(16)
		w.ADDQ(op.U32(256), at)
		w.SUBQ(op.Imm(8), left)
		w.JNE(op.LabelRef("dims"))
		for i, s := range sums {
			w.VCVTDQ2PS(s, s)
			w.VMULPS_BCST(op.Mem{Base: kScales, Disp: i * 4}, s, s)
			w.VMULPS(qScale, s, s)
			w.VMOVUPS(s, op.Mem{Base: scores, Disp: i * 64})
		}
		w.ADDQ(op.U32(48), kScales)
		w.ADDQ(op.U32(12*64), scores)
	})
	w.end()
}

// pairValues: two slots at a time.
func (w width) pairValues() {
	p := w.begin("pairValues"+w.isa, "func(dst *uint32, v *uint16, headDim, pairs uintptr)",
		"writes pairs of slots of v [2·pairs, headDim] as [pairs, headDim]{even slot, odd slot}; headDim is a multiple of 16.",
		"dst", "v", "headDim", "pairs")
	dst, values, headDim, pairs := p[0], p[1], p[2], p[3]
	row, left := w.GP64(), w.GP64()
	w.MOVQ(headDim, row)
	w.SHLQ(op.Imm(1), row)
	even, odd := w.vec(), w.vec()
	w.Label("pairs")
	w.MOVQ(headDim, left)
	w.Label("dims")
	w.VPMOVZXWD(op.Mem{Base: values}, even)
	w.widen(op.Mem{Base: values, Index: row, Scale: 1}, odd)
	w.VPORD(odd, even, even)
	w.VMOVUPS(even, op.Mem{Base: dst})
	w.ADDQ(op.Imm(32), values)
	w.ADDQ(op.Imm(64), dst)
	w.SUBQ(op.Imm(16), left)
	w.JNE(op.LabelRef("dims"))
	w.ADDQ(row, values)
	w.DECQ(pairs)
	w.JNE(op.LabelRef("pairs"))
	w.end()
}

// brainValues: blockValues with two slots in each word.
func (w width) brainValues() {
	p := w.begin("brainValues"+w.isa, "func(out *float32, weights, v *uint32, factor *float32, headDim, pairs uintptr)",
		"writes out [headDim, 16] = out · factor [16] + vᵀ · weights for pairs v [pairs, headDim] and weights [pairs, 16] of bf16; headDim is a multiple of 16.",
		"out", "weights", "v", "factor", "headDim", "pairs")
	w.valuesOf(p, func(m op.Mem, weight, sum reg.VecVirtual) { w.VDPBF16PS_BCST(m, weight, sum) })
}
