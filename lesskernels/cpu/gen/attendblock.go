package main

import (
	"fmt"
	"math"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// blockScores: twelve slots at a time, whose rows of K are three to each of
// four base registers.
func (w width) blockScores() {
	p := w.begin("blockScores"+w.isa, "func(scores, q, k *float32, headDim, slots uintptr)",
		fmt.Sprintf("writes scores [slots, %d] = k [slots, headDim] · q [headDim, %d]; slots is a multiple of 12, headDim of 4.", w.lanes, w.lanes),
		"scores", "q", "k", "headDim", "slots")
	scores, q, keys, headDim, slots := p[0], p[1], p[2], p[3], p[4]
	row := w.GP64()
	w.MOVQ(headDim, row)
	w.SHLQ(op.Imm(2), row)
	w.blockOf12(row, keys, slots, func(slot func(i, disp int) op.Mem, step func(bytes int)) {
		at, left := w.GP64(), w.GP64()
		sums := w.zeros(12)
		w.MOVQ(q, at)
		w.MOVQ(headDim, left)
		v, t := w.vec(), w.vec()
		w.Label("dims")
		for d := range 4 {
			w.VMOVUPS(op.Mem{Base: at, Disp: d * w.bytes()}, v)
			for i, s := range sums {
				w.fmaNumber(slot(i, d*4), v, s, t)
			}
		}
		step(16)
		w.ADDQ(op.U32(4*w.bytes()), at)
		w.SUBQ(op.Imm(4), left)
		w.JNE(op.LabelRef("dims"))
		for i, s := range sums {
			w.VMOVUPS(s, op.Mem{Base: scores, Disp: i * w.bytes()})
		}
		w.ADDQ(op.U32(12*w.bytes()), scores)
	})
	w.end()
}

// blockOf12 loops over slots, a multiple of 12, whose keys are row bytes apart. The
// body finds those of a slot by slot, from where step has moved on to.
func (w width) blockOf12(row, keys, slots reg.GPVirtual, body func(slot func(i, disp int) op.Mem, step func(bytes int))) {
	bases := make([]reg.GPVirtual, 4)
	for i := range bases {
		bases[i] = w.GP64()
	}
	w.Label("slots")
	w.MOVQ(keys, bases[0])
	for i := 1; i < 4; i++ {
		w.LEAQ(op.Mem{Base: bases[i-1], Index: row, Scale: 2}, bases[i])
		w.ADDQ(row, bases[i])
	}
	body(func(i, disp int) op.Mem {
		m := op.Mem{Base: bases[i/3], Disp: disp}
		if i%3 > 0 {
			m.Index, m.Scale = row, uint8(i%3)
		}
		return m
	}, func(bytes int) {
		for _, b := range bases {
			w.ADDQ(op.U32(bytes), b)
		}
	})
	w.LEAQ(op.Mem{Base: bases[3], Index: row, Scale: 2}, keys)
	w.SUBQ(op.Imm(12), slots)
	w.JNE(op.LabelRef("slots"))
}

// hider replaces what lanes do not see: lane i sees the slots below visible[i].
// It counts the slots itself, from a parameter of that name.
type hider struct {
	width
	seen, slot, one reg.VecVirtual
}

func (w width) newHider(visible reg.GPVirtual, first string) hider {
	h := hider{w, w.vec(), w.vec(), w.integers(1)}
	w.VMOVUPS(op.Mem{Base: visible}, h.seen)
	w.VBROADCASTSS(w.paramMem(first), h.slot)
	return h
}

// apply puts value into the lanes of x that do not see the slot, and steps on.
func (h hider) apply(x, value reg.VecVirtual) {
	if h.wide() {
		const lessOrEqual = 2
		mask := h.K()
		h.VPCMPD(op.Imm(lessOrEqual), h.slot, h.seen, mask)
		h.VMOVAPS(value, mask, x)
	} else {
		mask := h.vec()
		h.VPCMPGTD(h.slot, h.seen, mask)
		h.VBLENDVPS(mask, x, value, x)
	}
	h.VPADDD(h.one, h.slot, h.slot)
}

// blockSoftmax: the running maximum starts finite, so that a lane that sees
// nothing stays at zero weights instead of NaN. Pairs are weights as bf16, those of
// two slots in a word.
func (w width) softmax(pairs bool) {
	form, more, names := "", "", []string{"scores", "state", "visible", "slots", "hidden"}
	if pairs {
		form, more = ", pairs of them as [slots/2]{even, odd bf16} words, which may lie where scores do,", ", pairs *uint32"
		names = append(names, "pairs")
	}
	p := w.begin("blockSoftmax"+w.isa, "func(scores, state *float32, visible *int32, first int32, slots, hidden uintptr"+more+")",
		fmt.Sprintf("turns scores [slots, %d] in powers of two into weights 2^(score − maximum)"+form+" and keeps state {maximum [%d], sum [%d], factor [%d]}: factor is what earlier weights must be multiplied by. Lane i sees the slots below visible[i], where the first one's number is first; hidden 0: all see all.", w.lanes, w.lanes, w.lanes, w.lanes),
		names...)
	scores, state, visible, slots, some := p[0], p[1], p[2], p[3], p[4]
	power, hide := w.power("softmax"), w.newHider(visible, "first")
	hidden, peak, v := w.constant(float32(math.Inf(-1))), w.vec(), w.vec()
	w.VMOVUPS(op.Mem{Base: state}, peak)
	at, left := w.GP64(), w.GP64()
	w.MOVQ(scores, at)
	w.MOVQ(slots, left)
	w.TESTQ(some, some)
	w.JNE(op.LabelRef("hide"))
	w.Label("max")
	for i := range 4 {
		w.VMAXPS(op.Mem{Base: at, Disp: i * w.bytes()}, peak, peak)
	}
	w.ADDQ(op.U32(4*w.bytes()), at)
	w.SUBQ(op.Imm(4), left)
	w.JNE(op.LabelRef("max"))
	w.JMP(op.LabelRef("shift"))
	w.Label("hide")
	w.VMOVUPS(op.Mem{Base: at}, v)
	hide.apply(v, hidden)
	w.VMOVUPS(v, op.Mem{Base: at})
	w.VMAXPS(v, peak, peak)
	w.ADDQ(op.U32(w.bytes()), at)
	w.DECQ(left)
	w.JNE(op.LabelRef("hide"))

	w.Label("shift")
	factor, sum := w.vec(), w.vec()
	w.VMOVUPS(op.Mem{Base: state}, factor)
	w.VSUBPS(peak, factor, factor)
	power(factor)
	w.VMOVUPS(peak, op.Mem{Base: state})
	w.VMOVUPS(factor, op.Mem{Base: state, Disp: 2 * w.bytes()})
	w.VMULPS(op.Mem{Base: state, Disp: w.bytes()}, factor, sum)

	var half, odd reg.VecVirtual
	var to, apart reg.GPVirtual
	if pairs {
		half, odd = w.integers(0x8000), w.oddMask()
		to, apart = p[5], w.GP64()
		w.MOVQ(scores, apart)
		w.SUBQ(to, apart)
	}
	w.Label("exp")
	lanes := w.vecs(w.lanes / 4)
	for i, x := range lanes {
		w.VMOVUPS(op.Mem{Base: scores, Disp: i * w.bytes()}, x)
		w.VSUBPS(peak, x, x)
	}
	for _, x := range lanes {
		power(x)
	}
	if pairs {
		w.TESTQ(apart, apart)
		w.JEQ(op.LabelRef("pack"))
		for i, x := range lanes {
			w.VMOVUPS(x, op.Mem{Base: scores, Disp: i * w.bytes()})
		}
		w.Label("pack")
	}
	for i, x := range lanes {
		w.VADDPS(x, sum, sum)
		if !pairs {
			w.VMOVUPS(x, op.Mem{Base: scores, Disp: i * w.bytes()})
			continue
		}
		w.VPADDD(half, x, x)
		if i%2 == 1 {
			const lowOrMaskedHigh = 0xf8 // a | b & c
			w.VPSRLD(op.Imm(16), lanes[i-1], lanes[i-1])
			w.VPTERNLOGD(op.Imm(lowOrMaskedHigh), odd, x, lanes[i-1])
			w.VMOVUPS(lanes[i-1], op.Mem{Base: to, Disp: i / 2 * w.bytes()})
		}
	}
	if pairs {
		w.ADDQ(op.U32(len(lanes)/2*w.bytes()), to)
	}
	w.ADDQ(op.U32(len(lanes)*w.bytes()), scores)
	w.SUBQ(op.Imm(uint64(len(lanes))), slots)
	w.JNE(op.LabelRef("exp"))
	w.VMOVUPS(sum, op.Mem{Base: state, Disp: w.bytes()})
	w.end()
}

// blockValues: as many dimensions at a time as there are lanes stay in
// registers over all slots of the tile.
func (w width) blockValues() {
	p := w.begin("blockValues"+w.isa, "func(out, weights, v, factor *float32, headDim, slots uintptr)",
		fmt.Sprintf("writes out [headDim, %d] = out · factor [%d] + vᵀ · weights for v [slots, headDim] and weights [slots, %d]; headDim is a multiple of %d.", w.lanes, w.lanes, w.lanes, w.lanes),
		"out", "weights", "v", "factor", "headDim", "slots")
	t := w.vec()
	w.valuesOf(p, func(m op.Mem, weight, sum reg.VecVirtual) { w.fmaNumber(m, weight, sum, t) })
}

// valuesOf is blockValues by what adds the product of a word of values and a register
// of weights to a sum.
func (w width) valuesOf(p []reg.GPVirtual, add func(m op.Mem, weight, sum reg.VecVirtual)) {
	out, weights, values, factorAt, headDim, slots := p[0], p[1], p[2], p[3], p[4], p[5]
	row, left, at, number := w.GP64(), w.GP64(), w.GP64(), w.GP64()
	w.MOVQ(headDim, row)
	w.SHLQ(op.Imm(2), row)
	factor, weight := w.vec(), w.vec()
	w.VMOVUPS(op.Mem{Base: factorAt}, factor)
	kept := w.GP32() // 0: every factor is 1, as where no maximum has risen
	if w.wide() {
		const notEqual = 4
		changed := w.K()
		w.VCMPPS(op.Imm(notEqual), w.constant(1), factor, changed)
		w.KMOVW(changed, kept)
	}
	w.Label("dims")
	sums := w.vecs(w.lanes)
	if w.wide() {
		for d, s := range sums {
			w.VMOVUPS(op.Mem{Base: out, Disp: d * w.bytes()}, s)
		}
		w.TESTL(kept, kept)
		w.JEQ(op.LabelRef("kept"))
	}
	for d, s := range sums {
		w.VMULPS(op.Mem{Base: out, Disp: d * w.bytes()}, factor, s)
	}
	w.Label("kept")
	w.MOVQ(slots, left)
	w.MOVQ(values, at)
	w.MOVQ(weights, number)
	w.Label("slots")
	w.VMOVUPS(op.Mem{Base: number}, weight)
	for d, s := range sums {
		add(op.Mem{Base: at, Disp: d * 4}, weight, s)
	}
	w.ADDQ(row, at)
	w.ADDQ(op.U32(w.bytes()), number)
	w.DECQ(left)
	w.JNE(op.LabelRef("slots"))
	for d, s := range sums {
		w.VMOVUPS(s, op.Mem{Base: out, Disp: d * w.bytes()})
	}
	w.ADDQ(op.U32(w.lanes*w.bytes()), out)
	w.ADDQ(op.U32(w.lanes*4), values)
	w.SUBQ(op.U32(w.lanes), headDim)
	w.JNE(op.LabelRef("dims"))
	w.end()
}
