package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// attendAVX512 writes attention over bf16 keys and values. A block of queries
// has one query in each lane: scores, softmax and sums of values are all
// vertical, and keys and values are broadcast one number at a time. A single
// query group has a dimension in each lane instead.
func attendAVX512(k *kernels) {
	k.widen512()
	k.blockScores512()
	k.blockSoftmax512()
	k.blockValues512()
	for g := 1; g <= 4; g++ {
		k.rowScores512(g)
	}
	for g := 1; g <= 4; g++ {
		k.rowValues512(g, 32)
		k.rowValues512(g, 64)
	}
}

// begin opens a function; params are loaded into general registers in order.
func (k *kernels) begin(name, signature, doc string, params ...string) []reg.GPVirtual {
	k.Function(name)
	k.Attributes(attr.NOSPLIT)
	k.Pragma("noescape")
	k.SignatureExpr(signature)
	k.Doc(name + " " + doc)
	regs := make([]reg.GPVirtual, len(params))
	for i, p := range params {
		regs[i] = k.GP64()
		k.Load(k.Param(p), regs[i])
	}
	return regs
}

// end returns from a function that used wide registers.
func (k *kernels) end() {
	k.VZEROUPPER()
	k.RET()
}

// widen512: n is a multiple of 16.
func (k *kernels) widen512() {
	p := k.begin("widenAVX512", "func(dst *float32, src *uint16, n uintptr)",
		"writes n bf16 numbers, a multiple of 16, as float32.", "dst", "src", "n")
	v := k.ZMM()
	k.Label("loop")
	k.VPMOVZXWD(op.Mem{Base: p[1]}, v)
	k.VPSLLD(op.Imm(16), v, v)
	k.VMOVUPS(v, op.Mem{Base: p[0]})
	k.ADDQ(op.U32(32), p[1])
	k.ADDQ(op.U32(64), p[0])
	k.SUBQ(op.U32(16), p[2])
	k.JNE(op.LabelRef("loop"))
	k.end()
}

// blockScores512: twelve slots at a time, whose rows of K are three to each of
// four base registers.
func (k *kernels) blockScores512() {
	p := k.begin("blockScoresAVX512", "func(scores, q, k *float32, headDim, slots uintptr)",
		"writes scores [slots, 16] = k [slots, headDim] · q [headDim, 16]; slots is a multiple of 12, headDim of 4.",
		"scores", "q", "k", "headDim", "slots")
	scores, q, keys, headDim, slots := p[0], p[1], p[2], p[3], p[4]
	row := k.GP64()
	k.MOVQ(headDim, row)
	k.SHLQ(op.Imm(2), row)
	bases := make([]reg.GPVirtual, 4)
	for i := range bases {
		bases[i] = k.GP64()
	}
	at, left := k.GP64(), k.GP64()
	k.Label("slots")
	k.MOVQ(keys, bases[0])
	for i := 1; i < 4; i++ {
		k.LEAQ(op.Mem{Base: bases[i-1], Index: row, Scale: 2}, bases[i])
		k.ADDQ(row, bases[i])
	}
	sums := k.zero512(12)
	k.MOVQ(q, at)
	k.MOVQ(headDim, left)
	v := k.ZMM()
	k.Label("dims")
	for d := range 4 {
		k.VMOVUPS(op.Mem{Base: at, Disp: d * 64}, v)
		for i, s := range sums {
			m := op.Mem{Base: bases[i/3], Disp: d * 4}
			if i%3 > 0 {
				m.Index, m.Scale = row, uint8(i%3)
			}
			k.VFMADD231PS_BCST(m, v, s)
		}
	}
	for _, b := range bases {
		k.ADDQ(op.Imm(16), b)
	}
	k.ADDQ(op.U32(256), at)
	k.SUBQ(op.Imm(4), left)
	k.JNE(op.LabelRef("dims"))
	for i, s := range sums {
		k.VMOVUPS(s, op.Mem{Base: scores, Disp: i * 64})
	}
	k.ADDQ(op.U32(12*64), scores)
	k.LEAQ(op.Mem{Base: bases[3], Index: row, Scale: 2}, keys)
	k.SUBQ(op.Imm(12), slots)
	k.JNE(op.LabelRef("slots"))
	k.end()
}

// blockSoftmax512: lane i sees the first visible[i] slots of the tile. The
// running maximum starts finite, so that a lane that sees nothing stays at
// zero weights instead of NaN.
func (k *kernels) blockSoftmax512() {
	p := k.begin("blockSoftmaxAVX512", "func(scores, state *float32, visible *int32, slots uintptr)",
		"turns scores [slots, 16] in powers of two into weights 2^(score − maximum) and keeps state {maximum [16], sum [16], factor [16]}: factor is what earlier weights must be multiplied by.",
		"scores", "state", "visible", "slots")
	scores, state, visible, slots := p[0], p[1], p[2], p[3]
	e := k.newExp2()
	seen, slot, one := k.ZMM(), k.ZMM(), k.ZMM()
	hidden := k.constant512(float32(-1e38))
	k.VADDPS(hidden, hidden, hidden)
	k.VADDPS(hidden, hidden, hidden) // −Inf
	k.VMOVDQU32(op.Mem{Base: visible}, seen)
	bits := k.GP32()
	k.MOVL(op.U32(1), bits)
	k.VPBROADCASTD(bits, one)
	k.VPXORD(slot, slot, slot)

	peak, v := k.ZMM(), k.ZMM()
	k.VMOVUPS(op.Mem{Base: state}, peak)
	at, left, mask := k.GP64(), k.GP64(), k.K()
	k.MOVQ(scores, at)
	k.MOVQ(slots, left)
	k.Label("max")
	k.VPCMPD(op.Imm(2), slot, seen, mask) // seen <= slot: hidden
	k.VMOVUPS(op.Mem{Base: at}, v)
	k.VMOVAPS(hidden, mask, v)
	k.VMOVUPS(v, op.Mem{Base: at})
	k.VMAXPS(v, peak, peak)
	k.VPADDD(one, slot, slot)
	k.ADDQ(op.U32(64), at)
	k.DECQ(left)
	k.JNE(op.LabelRef("max"))

	factor, sum := k.ZMM(), k.ZMM()
	k.VMOVUPS(op.Mem{Base: state}, factor)
	k.VSUBPS(peak, factor, factor)
	e.apply(factor)
	k.VMOVUPS(peak, op.Mem{Base: state})
	k.VMOVUPS(factor, op.Mem{Base: state, Disp: 128})
	k.VMULPS(op.Mem{Base: state, Disp: 64}, factor, sum)

	k.Label("exp")
	lanes := [4]reg.VecVirtual{k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM()}
	for i, x := range lanes {
		k.VMOVUPS(op.Mem{Base: scores, Disp: i * 64}, x)
		k.VSUBPS(peak, x, x)
	}
	for _, x := range lanes {
		e.apply(x)
	}
	for i, x := range lanes {
		k.VMOVUPS(x, op.Mem{Base: scores, Disp: i * 64})
		k.VADDPS(x, sum, sum)
	}
	k.ADDQ(op.U32(256), scores)
	k.SUBQ(op.Imm(4), slots)
	k.JNE(op.LabelRef("exp"))
	k.VMOVUPS(sum, op.Mem{Base: state, Disp: 64})
	k.end()
}

// blockValues512: sixteen dimensions at a time stay in registers over all
// slots of the tile.
func (k *kernels) blockValues512() {
	p := k.begin("blockValuesAVX512", "func(out, weights, v, factor *float32, headDim, slots uintptr)",
		"writes out [headDim, 16] = out · factor [16] + vᵀ · weights for v [slots, headDim] and weights [slots, 16]; headDim is a multiple of 16.",
		"out", "weights", "v", "factor", "headDim", "slots")
	out, weights, values, factorAt, headDim, slots := p[0], p[1], p[2], p[3], p[4], p[5]
	row, left, at, w := k.GP64(), k.GP64(), k.GP64(), k.GP64()
	k.MOVQ(headDim, row)
	k.SHLQ(op.Imm(2), row)
	factor, weight := k.ZMM(), k.ZMM()
	k.VMOVUPS(op.Mem{Base: factorAt}, factor)
	k.Label("dims")
	sums := make([]reg.VecVirtual, 16)
	for d := range sums {
		sums[d] = k.ZMM()
		k.VMULPS(op.Mem{Base: out, Disp: d * 64}, factor, sums[d])
	}
	k.MOVQ(slots, left)
	k.MOVQ(values, at)
	k.MOVQ(weights, w)
	k.Label("slots")
	k.VMOVUPS(op.Mem{Base: w}, weight)
	for d, s := range sums {
		k.VFMADD231PS_BCST(op.Mem{Base: at, Disp: d * 4}, weight, s)
	}
	k.ADDQ(row, at)
	k.ADDQ(op.U32(64), w)
	k.DECQ(left)
	k.JNE(op.LabelRef("slots"))
	for d, s := range sums {
		k.VMOVUPS(s, op.Mem{Base: out, Disp: d * 64})
	}
	k.ADDQ(op.U32(16*64), out)
	k.ADDQ(op.U32(64), values)
	k.SUBQ(op.Imm(16), headDim)
	k.JNE(op.LabelRef("dims"))
	k.end()
}

// oddMask returns a register that keeps the upper bf16 of every pair, which is
// then its float32.
func (k *kernels) oddMask() reg.VecVirtual {
	bits, m := k.GP32(), k.ZMM()
	k.MOVL(op.U32(0xffff0000), bits)
	k.VPBROADCASTD(bits, m)
	return m
}

// rowScores512: four slots at a time; a load of 32 bf16 gives the even
// dimensions by a shift and the odd ones by a mask, and q is stored likewise.
func (k *kernels) rowScores512(group int) {
	name := fmt.Sprintf("rowScores%dAVX512", group)
	p := k.begin(name, "func(scores *float32, stride uintptr, q *float32, k *uint16, headDim, slots uintptr)",
		fmt.Sprintf("writes scores [%d, stride] of %d queries q [headDim/32]{[%d]{even [16], odd [16]}} and k [slots, headDim]; slots is a multiple of 4, headDim of 32.", group, group, group),
		"scores", "stride", "q", "k", "headDim", "slots")
	scores, stride, q, keys, headDim, slots := p[0], p[1], p[2], p[3], p[4], p[5]
	k.SHLQ(op.Imm(2), stride)
	row, at, left, query := k.GP64(), k.GP64(), k.GP64(), k.GP64()
	k.MOVQ(headDim, row)
	k.SHLQ(op.Imm(1), row)
	odd := k.oddMask()
	rows := [4]reg.GPVirtual{at, k.GP64(), k.GP64(), k.GP64()}
	k.Label("slots")
	sums := make([][]reg.VecVirtual, group)
	for g := range sums {
		sums[g] = k.zero512(4)
	}
	k.MOVQ(keys, at)
	for i := 1; i < 4; i++ {
		k.LEAQ(op.Mem{Base: rows[i-1], Index: row, Scale: 1}, rows[i])
	}
	k.MOVQ(q, query)
	k.MOVQ(headDim, left)
	k.Label("dims")
	var pair [4][2]reg.VecVirtual
	for s := range pair {
		pair[s] = [2]reg.VecVirtual{k.ZMM(), k.ZMM()}
		k.VPSLLD(op.Imm(16), op.Mem{Base: rows[s]}, pair[s][0])
		k.VPANDD(op.Mem{Base: rows[s]}, odd, pair[s][1])
		k.PREFETCHT0(op.Mem{Base: rows[s], Disp: ahead})
	}
	v := k.ZMM()
	for g := range group {
		for parity := range 2 {
			k.VMOVUPS(op.Mem{Base: query, Disp: (g*2 + parity) * 64}, v)
			for s := range pair {
				k.VFMADD231PS(pair[s][parity], v, sums[g][s])
			}
		}
	}
	k.ADDQ(op.U32(group*128), query)
	for _, r := range rows {
		k.ADDQ(op.U32(64), r)
	}
	k.SUBQ(op.Imm(32), left)
	k.JNE(op.LabelRef("dims"))
	to := k.GP64()
	k.MOVQ(scores, to)
	for g := range group {
		k.VMOVUPS(k.reduce4(sums[g]), op.Mem{Base: to})
		if g < group-1 {
			k.ADDQ(stride, to)
		}
	}
	k.ADDQ(op.Imm(16), scores)
	k.LEAQ(op.Mem{Base: keys, Index: row, Scale: 4}, keys)
	k.SUBQ(op.Imm(4), slots)
	k.JNE(op.LabelRef("slots"))
	k.end()
}

// reduce4 returns the sums of four registers' lanes in one of four lanes.
func (k *kernels) reduce4(v []reg.VecVirtual) reg.Register {
	low, high := k.ZMM(), k.ZMM()
	for i := 0; i < 4; i += 2 {
		k.VUNPCKLPS(v[i+1], v[i], low)
		k.VUNPCKHPS(v[i+1], v[i], high)
		k.VADDPS(low, high, v[i])
	}
	k.VUNPCKLPD(v[2], v[0], low)
	k.VUNPCKHPD(v[2], v[0], high)
	k.VADDPS(low, high, v[0])
	k.VEXTRACTF64X4(op.Imm(1), v[0], high.AsY())
	k.VADDPS(high.AsY(), v[0].AsY(), v[0].AsY())
	k.VEXTRACTF32X4(op.Imm(1), v[0].AsY(), high.AsX())
	k.VADDPS(high.AsX(), v[0].AsX(), v[0].AsX())
	return v[0].AsX()
}

// paramMem is the stack slot of a parameter.
func (k *kernels) paramMem(name string) op.Mem {
	basic, err := k.Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return basic.Addr
}

// rowValues512: dims of the value rows stay in registers over all slots, even
// and odd ones apart.
func (k *kernels) rowValues512(group, dims int) {
	name := fmt.Sprintf("rowValues%dx%dAVX512", group, dims)
	p := k.begin(name, "func(out, weights *float32, stride uintptr, v *uint16, headDim, slots uintptr)",
		fmt.Sprintf("writes out [%d]{[%d]{even [16], odd [16]}} = weights [%d, stride] · %d columns of v [slots, headDim].", group, dims/32, group, dims),
		"out", "weights", "stride", "v", "headDim", "slots")
	out, weights, stride, values, row, slots := p[0], p[1], p[2], p[3], p[4], p[5]
	k.SHLQ(op.Imm(2), stride)
	k.SHLQ(op.Imm(1), row)
	odd := k.oddMask()
	third := k.GP64()
	k.LEAQ(op.Mem{Base: stride, Index: stride, Scale: 2}, third)
	sums := make([][]reg.VecVirtual, group)
	for g := range sums {
		sums[g] = k.zero512(dims / 16)
	}
	v := make([]reg.VecVirtual, dims/16)
	for i := range v {
		v[i] = k.ZMM()
	}
	k.Label("slots")
	for i := 0; i < dims/16; i += 2 {
		at := op.Mem{Base: values, Disp: i * 32}
		k.VPSLLD(op.Imm(16), at, v[i])
		k.VPANDD(at, odd, v[i+1])
		at.Disp += ahead
		k.PREFETCHT0(at)
	}
	for g := range sums {
		w := op.Mem{Base: weights}
		switch g {
		case 1, 2:
			w.Index, w.Scale = stride, uint8(g)
		case 3:
			w.Index, w.Scale = third, 1
		}
		for i := range v {
			k.VFMADD231PS_BCST(w, v[i], sums[g][i])
		}
	}
	k.ADDQ(op.Imm(4), weights)
	k.ADDQ(row, values)
	k.DECQ(slots)
	k.JNE(op.LabelRef("slots"))
	for g := range sums {
		for i, s := range sums[g] {
			k.VMOVUPS(s, op.Mem{Base: out, Disp: (g*dims/16 + i) * 64})
		}
	}
	k.end()
}
