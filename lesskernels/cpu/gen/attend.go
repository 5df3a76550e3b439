package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/mmcloughlin/avo/attr"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// attendAVX512 writes attention over bf16 keys and values. A block of queries
// has one query in each lane: scores, softmax and sums of values are all
// vertical, and keys and values are broadcast one number at a time. A single
// query group has a dimension in each lane instead.
func attendAVX512(k *kernels) { avx512(k).attend() }

// attendAVX2 is attendAVX512 with half the width.
func attendAVX2(k *kernels) { avx2(k).attend() }

func (w width) attend() {
	w.widenAll()
	w.finite()
	w.blockScores()
	w.softmax(false)
	w.blockValues()
	for g := 1; g <= 4; g++ {
		w.rowScores(g)
	}
	for g := 1; g <= 4; g++ {
		for _, registers := range w.rowRegisters(g) {
			w.rowValues(g, registers)
		}
	}
	w.columns()
	w.transpose()
	if !w.wide() {
		w.rowMax()
		w.rowExp2Sum()
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

// widenAll: a register at a time.
func (w width) widenAll() {
	p := w.begin("widen"+w.isa, "func(dst *float32, src *uint16, n uintptr)",
		fmt.Sprintf("writes n bf16 numbers, a multiple of %d, as float32.", w.lanes), "dst", "src", "n")
	v := w.vec()
	w.Label("loop")
	w.widen(op.Mem{Base: p[1]}, v)
	w.VMOVUPS(v, op.Mem{Base: p[0]})
	w.ADDQ(op.U32(w.bytes()/2), p[1])
	w.ADDQ(op.U32(w.bytes()), p[0])
	w.SUBQ(op.U32(w.lanes), p[2])
	w.JNE(op.LabelRef("loop"))
	w.end()
}

// finite: the largest without its sign, a register at a time. Those of infinities and
// NaN are the largest of all.
func (w width) finite() {
	p := w.begin("finite"+w.isa, "func(x *uint16, n uintptr) bool",
		fmt.Sprintf("tells whether all of n bf16 numbers, a multiple of %d, are finite.", w.lanes), "x", "n")
	peak, v, unsigned := w.zeros(1)[0], w.vec(), w.integers(0x7fff)
	w.Label("loop")
	w.VPMOVZXWD(op.Mem{Base: p[0]}, v)
	if w.wide() {
		w.VPANDD(unsigned, v, v)
	} else {
		w.VPAND(unsigned, v, v)
	}
	w.VPMAXSD(v, peak, peak)
	w.ADDQ(op.U32(w.bytes()/2), p[0])
	w.SUBQ(op.U32(w.lanes), p[1])
	w.JNE(op.LabelRef("loop"))
	largest, over, result := w.integers(0x7f7f), w.GP32(), w.GP8()
	if w.wide() {
		const greater = 6
		mask := w.K()
		w.VPCMPD(op.Imm(greater), largest, peak, mask)
		w.KMOVW(mask, over)
	} else {
		w.VPCMPGTD(largest, peak, peak)
		w.VMOVMSKPS(peak, over)
	}
	w.TESTL(over, over)
	w.SETEQ(result)
	w.VZEROUPPER()
	w.Store(result, w.ReturnIndex(0))
	w.RET()
}

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
	form := ""
	if pairs {
		form = ", as [slots/2]{even, odd bf16} words,"
	}
	p := w.begin("blockSoftmax"+w.isa, "func(scores, state *float32, visible *int32, first int32, slots, hidden uintptr)",
		fmt.Sprintf("turns scores [slots, %d] in powers of two into weights 2^(score − maximum)"+form+" and keeps state {maximum [%d], sum [%d], factor [%d]}: factor is what earlier weights must be multiplied by. Lane i sees the slots below visible[i], where the first one's number is first; hidden 0: all see all.", w.lanes, w.lanes, w.lanes, w.lanes),
		"scores", "state", "visible", "slots", "hidden")
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
	to := w.GP64()
	if pairs {
		half, odd = w.integers(0x8000), w.oddMask()
		w.MOVQ(scores, to)
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

// oddMask returns a register that keeps the upper bf16 of every pair, which is
// then its float32.
func (w width) oddMask() reg.VecVirtual { return w.integers(0xffff0000) }

// rowScores: four slots at a time, or two in the smaller registers; a load of
// bf16 numbers gives the even dimensions by a shift and the odd ones by a mask,
// and q is stored likewise.
func (w width) rowScores(group int) {
	together := w.lanes / 4
	p := w.begin(fmt.Sprintf("rowScores%d%s", group, w.isa), "func(scores *float32, stride uintptr, q *float32, k *uint16, headDim, slots uintptr)",
		fmt.Sprintf("writes scores [%d, stride] of %d queries q [headDim/%d]{[%d]{even [%d], odd [%d]}} and k [slots, headDim]; slots is a multiple of 4, headDim of %d.", group, group, 2*w.lanes, group, w.lanes, w.lanes, 2*w.lanes),
		"scores", "stride", "q", "k", "headDim", "slots")
	scores, stride, q, keys, headDim, slots := p[0], p[1], p[2], p[3], p[4], p[5]
	w.SHLQ(op.Imm(2), stride)
	row, left, query := w.GP64(), w.GP64(), w.GP64()
	w.MOVQ(headDim, row)
	w.SHLQ(op.Imm(1), row)
	odd := w.oddMask()
	rows := make([]reg.GPVirtual, together)
	for i := range rows {
		rows[i] = w.GP64()
	}
	w.Label("slots")
	sums := make([][]reg.VecVirtual, group)
	for g := range sums {
		sums[g] = w.zeros(together)
	}
	w.MOVQ(keys, rows[0])
	for i := 1; i < together; i++ {
		w.LEAQ(op.Mem{Base: rows[i-1], Index: row, Scale: 1}, rows[i])
	}
	w.MOVQ(q, query)
	w.MOVQ(headDim, left)
	w.Label("dims")
	pairs := make([][]reg.VecVirtual, together)
	for s := range pairs {
		pairs[s] = w.vecs(2)
		w.pair(op.Mem{Base: rows[s]}, odd, pairs[s][0], pairs[s][1])
		w.PREFETCHT0(op.Mem{Base: rows[s], Disp: ahead})
	}
	v := w.vec()
	for g := range group {
		for parity := range 2 {
			w.VMOVUPS(op.Mem{Base: query, Disp: (g*2 + parity) * w.bytes()}, v)
			for s := range pairs {
				w.VFMADD231PS(pairs[s][parity], v, sums[g][s])
			}
		}
	}
	w.ADDQ(op.U32(group*2*w.bytes()), query)
	for _, r := range rows {
		w.ADDQ(op.U32(w.bytes()), r)
	}
	w.SUBQ(op.U32(2*w.lanes), left)
	w.JNE(op.LabelRef("dims"))
	to := w.GP64()
	w.MOVQ(scores, to)
	for g := range group {
		if w.wide() {
			w.VMOVUPS(w.joined(sums[g], w.add), op.Mem{Base: to})
		} else {
			w.VMOVSD(w.twoSums(sums[g][0], sums[g][1]), op.Mem{Base: to})
		}
		if g < group-1 {
			w.ADDQ(stride, to)
		}
	}
	w.ADDQ(op.U32(together*4), scores)
	w.LEAQ(op.Mem{Base: keys, Index: row, Scale: uint8(together)}, keys)
	w.SUBQ(op.U32(together), slots)
	w.JNE(op.LabelRef("slots"))
	w.end()
}

// joined returns the lanes of each of four registers joined to one, in one of
// four lanes.
func (w width) joined(v []reg.VecVirtual, join func(a, b reg.Register)) reg.Register {
	low, halves := w.vec(), w.vecs(2)
	for i, half := range halves {
		w.VUNPCKLPS(v[2*i+1], v[2*i], low)
		w.VUNPCKHPS(v[2*i+1], v[2*i], half)
		join(low, half)
	}
	high := v[0]
	w.VUNPCKLPD(halves[1], halves[0], low)
	w.VUNPCKHPD(halves[1], halves[0], high)
	join(low, high)
	if w.wide() {
		w.VEXTRACTF64X4(op.Imm(1), high, low.AsY())
		join(low.AsY(), high.AsY())
		w.VEXTRACTF32X4(op.Imm(1), high.AsY(), low.AsX())
	} else {
		w.VEXTRACTF128(op.Imm(1), high, low.AsX())
	}
	join(low.AsX(), high.AsX())
	return high.AsX()
}

// twoSums returns the sums of the lanes of two small registers in two lanes.
func (w width) twoSums(a, b reg.VecVirtual) reg.Register {
	w.VHADDPS(b, a, a)
	w.VEXTRACTF128(op.Imm(1), a, b.AsX())
	w.VADDPS(b.AsX(), a.AsX(), a.AsX())
	w.VHADDPS(a.AsX(), a.AsX(), a.AsX())
	return a.AsX()
}

// paramMem is the stack slot of a parameter.
func (k *kernels) paramMem(name string) op.Mem {
	basic, err := k.Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return basic.Addr
}

// rowRegisters are the sizes of rowValues, in registers of each query: four
// where the sums, two of values, a weight and a mask fit.
func (w width) rowRegisters(group int) []int {
	if w.wide() || 4*group+4 <= 16 {
		return []int{2, 4}
	}
	return []int{2}
}

// rowValues: some columns of the value rows stay in registers over all slots,
// even and odd ones apart.
func (w width) rowValues(group, registers int) {
	columns := registers * w.lanes
	p := w.begin(fmt.Sprintf("rowValues%dx%d%s", group, columns, w.isa), "func(out, weights *float32, stride uintptr, v *uint16, headDim, slots uintptr)",
		fmt.Sprintf("writes out [%d]{[%d]{even [%d], odd [%d]}} = weights [%d, stride] · %d columns of v [slots, headDim].", group, registers/2, w.lanes, w.lanes, group, columns),
		"out", "weights", "stride", "v", "headDim", "slots")
	out, weights, stride, values, row, slots := p[0], p[1], p[2], p[3], p[4], p[5]
	w.SHLQ(op.Imm(2), stride)
	w.SHLQ(op.Imm(1), row)
	odd := w.oddMask()
	third := w.GP64()
	w.LEAQ(op.Mem{Base: stride, Index: stride, Scale: 2}, third)
	sums := make([][]reg.VecVirtual, group)
	for g := range sums {
		sums[g] = w.zeros(registers)
	}
	t := w.vec()
	w.Label("slots")
	pairs := w.vecs(registers)
	if !w.wide() { // no room for more
		pairs = slices.Repeat(w.vecs(2), registers/2)
	}
	load := func(i int) {
		at := op.Mem{Base: values, Disp: i * w.bytes()}
		w.pair(at, odd, pairs[2*i], pairs[2*i+1])
		at.Disp += ahead
		w.PREFETCHT0(at)
	}
	add := func(from, to int) {
		for g := range sums {
			m := op.Mem{Base: weights}
			switch g {
			case 1, 2:
				m.Index, m.Scale = stride, uint8(g)
			case 3:
				m.Index, m.Scale = third, 1
			}
			if !w.wide() {
				w.VBROADCASTSS(m, t)
			}
			for i := from; i < to; i++ {
				if w.wide() {
					w.VFMADD231PS_BCST(m, pairs[i], sums[g][i])
				} else {
					w.VFMADD231PS(t, pairs[i], sums[g][i])
				}
			}
		}
	}
	for i := range registers / 2 {
		load(i)
		if !w.wide() {
			add(2*i, 2*i+2)
		}
	}
	if w.wide() {
		add(0, registers)
	}
	w.ADDQ(op.Imm(4), weights)
	w.ADDQ(row, values)
	w.DECQ(slots)
	w.JNE(op.LabelRef("slots"))
	for g := range sums {
		for i, s := range sums[g] {
			w.VMOVUPS(s, op.Mem{Base: out, Disp: (g*registers + i) * w.bytes()})
		}
	}
	w.end()
}

// rowMax and rowExp2Sum are max512 and expSum512 of whole registers.
func (w width) rowMax() {
	p := w.begin("max"+w.isa, "func(x *float32, n uintptr) float32", fmt.Sprintf("returns the largest of n numbers, a multiple of %d.", w.lanes), "x", "n")
	peak := w.constant(float32(math.Inf(-1)))
	w.Label("loop")
	w.VMAXPS(op.Mem{Base: p[0]}, peak, peak)
	w.ADDQ(op.U32(w.bytes()), p[0])
	w.SUBQ(op.U32(w.lanes), p[1])
	w.JNE(op.LabelRef("loop"))
	w.Store(w.folded256(peak, w.max), w.ReturnIndex(0))
	w.end()
}

func (w width) rowExp2Sum() {
	p := w.begin("exp2Sum"+w.isa, "func(x *float32, n uintptr, peak float32) float32", fmt.Sprintf("replaces n numbers x, n a multiple of %d, by 2^(x − peak) and returns the sum.", w.lanes), "x", "n")
	peak, sum, power, x := w.parameter("peak"), w.zeros(1)[0], w.power("exp2Sum"), w.vec()
	w.Label("loop")
	w.VMOVUPS(op.Mem{Base: p[0]}, x)
	w.VSUBPS(peak, x, x)
	power(x)
	w.VMOVUPS(x, op.Mem{Base: p[0]})
	w.VADDPS(x, sum, sum)
	w.ADDQ(op.U32(w.bytes()), p[0])
	w.SUBQ(op.U32(w.lanes), p[1])
	w.JNE(op.LabelRef("loop"))
	w.Store(w.folded256(sum, w.add), w.ReturnIndex(0))
	w.end()
}

// folded256 joins the lanes of v into its lowest.
func (k *kernels) folded256(v reg.VecVirtual, join func(a, b reg.Register)) reg.Register {
	t := k.YMM()
	k.VEXTRACTF128(op.Imm(1), v, t.AsX())
	join(t.AsX(), v.AsX())
	k.VPERMILPS(op.Imm(0b01001110), v.AsX(), t.AsX())
	join(t.AsX(), v.AsX())
	k.VPERMILPS(op.Imm(0b10110001), v.AsX(), t.AsX())
	join(t.AsX(), v.AsX())
	return v.AsX()
}
