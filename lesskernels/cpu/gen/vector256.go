package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vectorAVX2 writes the functions of whole rows for processors without AVX-512. They
// take whole registers: package cpu does the last few values of a row in Go.
func vectorAVX2(k *kernels) {
	w := avx2(k)
	w.dot256()
	w.axpy256()
	w.scale256Row()
	w.expSum256()
	w.swiglu256()
	w.norm256()
	w.rope256()
	w.bf16AVX2()
	w.addPairs256()
	w.addRows256()
	w.quantize256()
}

// walk goes through rows of n values, a multiple of the register.
func (w width) walk(n reg.GPVirtual, rows []reg.GPVirtual, body func()) {
	w.Label("loop")
	body()
	for _, r := range rows {
		w.ADDQ(op.U32(w.bytes()), r)
	}
	w.SUBQ(op.U32(w.lanes), n)
	w.JNE(op.LabelRef("loop"))
}

// load reads a register.
func (w width) load(row reg.GPVirtual) reg.VecVirtual {
	v := w.vec()
	w.VMOVUPS(op.Mem{Base: row}, v)
	return v
}

func (w width) dot256() {
	p := w.begin("dotAVX2", "func(a, b *float32, n uintptr) float32", "returns Σ a·b of n numbers, a multiple of 32.", "a", "b", "n")
	sums := w.zeros(4)
	w.Label("loop")
	for i, s := range sums {
		v := w.vec()
		w.VMOVUPS(op.Mem{Base: p[0], Disp: i * 32}, v)
		w.VFMADD231PS(op.Mem{Base: p[1], Disp: i * 32}, v, s)
	}
	w.SUBQ(op.I8(-128), p[0])
	w.SUBQ(op.I8(-128), p[1])
	w.SUBQ(op.Imm(32), p[2])
	w.JNE(op.LabelRef("loop"))
	w.VADDPS(sums[1], sums[0], sums[0])
	w.VADDPS(sums[3], sums[2], sums[2])
	w.VADDPS(sums[2], sums[0], sums[0])
	w.Store(w.folded256(sums[0], w.add), w.ReturnIndex(0))
	w.end()
}

func (w width) axpy256() {
	p := w.begin("axpyAVX2", "func(dst *float32, a float32, x *float32, n uintptr)", "adds a·x to dst; n is a multiple of 8.", "dst", "x", "n")
	a := w.parameter("a")
	w.walk(p[2], p[:2], func() {
		d := w.load(p[0])
		w.VFMADD231PS(op.Mem{Base: p[1]}, a, d)
		w.VMOVUPS(d, op.Mem{Base: p[0]})
	})
	w.end()
}

func (w width) scale256Row() {
	p := w.begin("scaleAVX2", "func(x *float32, n uintptr, a float32)", "multiplies n numbers, a multiple of 8, by a.", "x", "n")
	a := w.parameter("a")
	w.walk(p[1], p[:1], func() {
		x := w.load(p[0])
		w.VMULPS(a, x, x)
		w.VMOVUPS(x, op.Mem{Base: p[0]})
	})
	w.end()
}

func (w width) expSum256() {
	p := w.begin("expSumAVX2", "func(x *float32, n uintptr, peak float32) float32", "replaces n numbers x, a multiple of 8, none above peak, by e^(x − peak) and returns the sum.", "x", "n")
	peak, sum, power := w.parameter("peak"), w.zeros(1)[0], w.newPower256("expSum").newNatural("expSum")
	w.walk(p[1], p[:1], func() {
		x := w.load(p[0])
		w.VSUBPS(peak, x, x)
		e := power(x)
		w.VMOVUPS(e, op.Mem{Base: p[0]})
		w.VADDPS(e, sum, sum)
	})
	w.Store(w.folded256(sum, w.add), w.ReturnIndex(0))
	w.end()
}

// swiglu256: with t = e^−|gate|, which cannot overflow, sigmoid(gate) is 1/(1 + t), or
// t/(1 + t) where gate is negative.
func (w width) swiglu256() {
	p := w.begin("swigluAVX2", "func(dst, gate, up *float32, n uintptr)", "writes gate·sigmoid(gate)·up of n numbers, a multiple of 8.", "dst", "gate", "up", "n")
	power, one := w.newPower256("swiglu").newNatural("swiglu"), w.constant(1)
	sign := w.constant(float32(math.Copysign(0, -1)))
	w.walk(p[3], p[:3], func() {
		gate, x := w.load(p[1]), w.vec()
		w.VORPS(sign, gate, x)
		t := power(x)
		share := w.vec()
		w.VBLENDVPS(gate, t, one, share)
		w.VADDPS(one, t, t)
		w.VDIVPS(t, share, share)
		w.VMULPS(share, gate, gate)
		w.VMULPS(op.Mem{Base: p[2]}, gate, gate)
		w.VMOVUPS(gate, op.Mem{Base: p[0]})
	})
	w.end()
}

func (w width) norm256() {
	p := w.begin("normAVX2", "func(dst, x, w *float32, n uintptr, scale float32)", "writes x·scale·w of n numbers, a multiple of 8.", "dst", "x", "w", "n")
	scale := w.parameter("scale")
	w.walk(p[3], p[:3], func() {
		x := w.load(p[1])
		w.VMULPS(scale, x, x)
		w.VMULPS(op.Mem{Base: p[2]}, x, x)
		w.VMOVUPS(x, op.Mem{Base: p[0]})
	})
	w.end()
}

// rope256 is rope512 with four pairs at a time.
func (w width) rope256() {
	p := w.begin("ropeAVX2", "func(x, cos, sin *float32, heads, half uintptr)", "rotates heads of 2·half values, half a multiple of 4.", "x", "cos", "sin", "heads", "half")
	at, left := w.GP64(), w.GP64()
	x, c, s, t := w.vec(), w.vec(), w.vec(), w.vec()
	w.Label("head")
	w.XORQ(at, at)
	w.MOVQ(p[4], left)
	w.Label("pairs")
	w.VPMOVZXDQ(op.Mem{Base: p[1], Index: at, Scale: 4}, c)
	w.VPMOVZXDQ(op.Mem{Base: p[2], Index: at, Scale: 4}, s)
	w.VMOVSLDUP(c, c)
	w.VMOVSLDUP(s, s)
	w.VMOVUPS(op.Mem{Base: p[0]}, x)
	w.VPERMILPS(op.Imm(0b10110001), x, t)
	w.VMULPS(s, t, t)
	w.VFMADDSUB213PS(t, c, x)
	w.VMOVUPS(x, op.Mem{Base: p[0]})
	w.ADDQ(op.Imm(32), p[0])
	w.ADDQ(op.Imm(4), at)
	w.SUBQ(op.Imm(4), left)
	w.JNE(op.LabelRef("pairs"))
	w.DECQ(p[3])
	w.JNE(op.LabelRef("head"))
	w.end()
}

// bf16AVX2 rounds as bf16AVX512 does.
func (w width) bf16AVX2() {
	p := w.begin("bf16AVX2", "func(dst *uint16, src *float32, n uintptr)", "rounds n numbers, a multiple of 16.", "dst", "src", "n")
	const unordered = 3
	one, bias, quiet := w.integers(1), w.integers(0x7fff), w.integers(0x400000)
	x, nan, t := w.vec(), w.vec(), w.vecs(2)
	w.Label("loop")
	for i, t := range t {
		w.VMOVUPS(op.Mem{Base: p[1], Disp: i * 32}, x)
		w.VCMPPS(op.Imm(unordered), x, x, nan)
		w.VPSRLD(op.Imm(16), x, t)
		w.VPAND(one, t, t)
		w.VPADDD(bias, t, t)
		w.VPADDD(x, t, t)
		w.VPOR(quiet, x, x)
		w.VBLENDVPS(nan, x, t, t)
		w.VPSRLD(op.Imm(16), t, t)
	}
	w.VPACKUSDW(t[1], t[0], t[0])
	w.VPERMQ(op.Imm(0b11011000), t[0], t[0])
	w.VMOVDQU(t[0], op.Mem{Base: p[0]})
	w.ADDQ(op.Imm(64), p[1])
	w.ADDQ(op.Imm(32), p[0])
	w.SUBQ(op.Imm(16), p[2])
	w.JNE(op.LabelRef("loop"))
	w.end()
}

func (w width) addPairs256() {
	p := w.begin("addPairsAVX2", "func(dst *float32, stride uintptr, src *float32, pairs uintptr)",
		"adds rows of 16 values of src two by two, and writes the sums every stride values.", "dst", "stride", "src", "pairs")
	w.SHLQ(op.Imm(2), p[1])
	v := w.vecs(2)
	w.Label("pair")
	for i, v := range v {
		w.VMOVUPS(op.Mem{Base: p[2], Disp: i * 32}, v)
		w.VADDPS(op.Mem{Base: p[2], Disp: 64 + i*32}, v, v)
	}
	for i, v := range v {
		w.VMOVUPS(v, op.Mem{Base: p[0], Disp: i * 32})
	}
	w.SUBQ(op.I8(-128), p[2])
	w.ADDQ(p[1], p[0])
	w.DECQ(p[3])
	w.JNE(op.LabelRef("pair"))
	w.end()
}

func (w width) addRows256() {
	p := w.begin("addRowsAVX2", "func(dst *float32, stride uintptr, src *float32, n uintptr)",
		"adds rows of 16 values of src to those of dst, stride values apart.", "dst", "stride", "src", "n")
	w.SHLQ(op.Imm(2), p[1])
	v := w.vecs(2)
	w.Label("row")
	for i, v := range v {
		w.VMOVUPS(op.Mem{Base: p[2], Disp: i * 32}, v)
		w.VADDPS(op.Mem{Base: p[0], Disp: i * 32}, v, v)
		w.VMOVUPS(v, op.Mem{Base: p[0], Disp: i * 32})
	}
	w.ADDQ(op.Imm(64), p[2])
	w.ADDQ(p[1], p[0])
	w.DECQ(p[3])
	w.JNE(op.LabelRef("row"))
	w.end()
}

// order256 puts the words of VPACKSSDW and VPACKSSWB, which stay within halves of a
// register, in their places.
var order256 = []uint32{0, 4, 1, 5, 2, 6, 3, 7}

// quantize256 is quantize512 in registers of half the size.
func (w width) quantize256() {
	order := w.StaticGlobal("order256")
	w.DataAttributes(attr.RODATA | attr.NOPTR)
	for _, i := range order256 {
		w.AppendDatum(op.U32(i))
	}
	for _, pairs := range []bool{false, true} {
		name, doc := "quantizeAVX2", "writes one token's blocks of 32 values in the integer form of tiles of that many rows."
		if pairs {
			name, doc = "quantizePairAVX2", "writes one token's blocks of 32 values, and what they leave over to the next row, in the integer form of tiles of that many rows."
		}
		p := w.begin(name, "func(dst *uint32, x *float32, rows, blocks uintptr)", doc, "dst", "x", "rows", "blocks")
		r := recorder{k: w.kernels, dst: p[0], stride: p[2], third: w.GP64(), record: w.GP64(), upper: w.GP64(), bits: w.GP32(), scale: w.XMM(), codes: w.YMM()}
		r.strides()
		q := quantizer256{width: w, recorder: r, v: w.vecs(4), magnitude: w.integers(0x7fffffff), order: w.vec(), limit: w.XMM(), toScale: w.XMM()}
		w.VMOVDQU(order, q.order)
		w.VMOVSS(w.ConstData(name+"Limit", op.F32(127)), q.limit)
		w.VMOVSS(w.ConstData(name+"ToScale", op.F32(1.0/127)), q.toScale)
		x, blocks := p[1], p[3]
		w.Label("block")
		for i, v := range q.v {
			w.VMOVUPS(op.Mem{Base: x, Disp: i * 32}, v)
		}
		q.round("")
		if pairs {
			scale, code := w.vec(), w.vec()
			w.VBROADCASTSS(q.scale, scale)
			for i, v := range q.v {
				w.VCVTDQ2PS(v, code)
				w.VMOVUPS(op.Mem{Base: x, Disp: i * 32}, v)
				w.VFNMADD231PS(code, scale, v)
			}
			w.ADDQ(op.Imm(4), q.dst)
			q.round("Rest")
			w.SUBQ(op.Imm(4), q.dst)
		}
		w.SUBQ(op.I8(-128), x)
		w.ADDQ(q.record, q.dst)
		w.DECQ(blocks)
		w.JNE(op.LabelRef("block"))
		w.end()
		q.special("")
		if pairs {
			q.special("Rest")
		}
	}
}

// quantizer256 rounds blocks to int8, four registers each.
type quantizer256 struct {
	width
	recorder
	v                []reg.VecVirtual // the block; its codes once they are rounded
	magnitude, order reg.VecVirtual
	limit, toScale   reg.VecVirtual
}

// round writes the record of the block in v. Labels end with a suffix.
func (q quantizer256) round(suffix string) {
	w := q.width
	peak, t := w.vec(), w.vec()
	w.VPAND(q.magnitude, q.v[0], peak)
	for _, v := range q.v[1:] {
		w.VPAND(q.magnitude, v, t)
		w.VPMAXUD(t, peak, peak)
	}
	largest := w.folded256(peak, func(a, b reg.Register) { w.VPMAXUD(a, b, b) })
	inverse := w.vec()
	w.VMOVD(largest, q.bits)
	w.VDIVSS(largest, q.limit, inverse.AsX())
	w.VMULSS(q.toScale, largest, q.scale)
	w.CMPL(q.bits, op.U32(math.Float32bits(smallestPeak)))
	w.JB(op.LabelRef("tiny" + suffix))
	w.CMPL(q.bits, op.U32(0x7f800000))
	w.JAE(op.LabelRef("endless" + suffix))
	w.VBROADCASTSS(inverse.AsX(), inverse)
	for _, v := range q.v {
		w.VMULPS(inverse, v, v)
		w.VCVTPS2DQ(v, v)
	}
	w.VPACKSSDW(q.v[1], q.v[0], q.codes)
	w.VPACKSSDW(q.v[3], q.v[2], t)
	w.VPACKSSWB(t, q.codes, q.codes)
	w.VPERMD(q.codes, q.order, q.codes)
	w.Label("store" + suffix)
	sum, ones, first, high := w.vec(), w.vec(), w.XMM(), w.XMM()
	w.VPCMPEQB(ones, ones, ones)
	w.VPABSB(ones, ones)
	w.VPMADDUBSW(q.codes, ones, sum)
	w.VPCMPEQW(ones, ones, ones)
	w.VPABSW(ones, ones)
	w.VPMADDWD(ones, sum, sum)
	w.VEXTRACTI128(op.Imm(1), sum, high)
	q.recorder.sums(sum.AsX(), first, high)
	w.VEXTRACTI128(op.Imm(1), q.codes, high)
	q.write(sum.AsX(), first, high)
}

// special stands outside the loop, as that of 512 bits does.
func (q quantizer256) special(suffix string) {
	w := q.width
	w.Label("endless" + suffix)
	w.MOVL(op.U32(0x7fc00000), q.bits)
	w.VMOVD(q.bits, q.scale)
	w.JMP(op.LabelRef("zeros" + suffix))
	w.Label("tiny" + suffix)
	w.VXORPS(q.scale, q.scale, q.scale)
	w.Label("zeros" + suffix)
	w.VPXOR(q.codes, q.codes, q.codes)
	for _, v := range q.v {
		w.VPXOR(v, v, v)
	}
	w.JMP(op.LabelRef("store" + suffix))
}

// newNatural returns code that gives e^x of x, at most 0: x·log₂e = n + r with r to
// full precision. x is used up.
func (e power256) newNatural(name string) func(x reg.VecVirtual) reg.VecVirtual {
	upper := float32(math.Log2E)
	high, low := e.table(fmt.Sprint(name, "Log2E"), float64(upper)), e.table(fmt.Sprint(name, "Log2ERest"), math.Log2E-float64(upper))
	return func(x reg.VecVirtual) reg.VecVirtual {
		n, keep, r := e.vec(), e.vec(), e.vec()
		e.VMULPS(high, x, n)
		e.clamp(n, keep)
		e.VROUNDPS(op.Imm(8), n, n)
		e.VMOVUPS(n, r)
		e.VFMSUB231PS(high, x, r)
		e.VFMADD231PS(low, x, r)
		e.scaled(r, n)
		e.VANDPS(keep, r, r)
		return r
	}
}
