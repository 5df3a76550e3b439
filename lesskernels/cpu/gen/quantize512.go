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
// order as the numbers do and put NaN on top. The form of pairs is written by the
// same steps once more, for what the codes leave over.
func (k *kernels) quantize512() {
	for _, lines := range []bool{false, true} {
		for _, pairs := range []bool{false, true} {
			k.quantizeForm512(pairs, lines)
		}
	}
}

func (k *kernels) quantizeForm512(pairs, lines bool) {
	name, doc, row := "quantize", "writes one token's blocks of 32 values", "rows"
	if pairs {
		name, doc = "quantizePair", doc+", and what they leave over to the next row,"
	}
	if lines {
		name, doc, row = name+"Lines", doc+" in lines: a row of tiles of 16.", "row"
	} else {
		doc += " in the integer form of tiles of that many rows."
	}
	p := k.begin(name+"AVX512", "func(dst *uint32, x *float32, "+row+", blocks uintptr)", doc, "dst", "x", row, "blocks")
	q := k.newQuantizer(p[0], p[2], lines)
	x, blocks := p[1], p[3]
	k.Label("block")
	k.VMOVUPS(op.Mem{Base: x}, q.v[0])
	k.VMOVUPS(op.Mem{Base: x, Disp: 64}, q.v[1])
	q.round("")
	if pairs {
		scale, code := k.ZMM(), k.ZMM()
		k.VBROADCASTSS(q.scale, scale)
		for i, v := range q.v {
			k.VCVTDQ2PS(v, code)
			k.VMOVUPS(op.Mem{Base: x, Disp: i * 64}, v)
			k.VFNMADD231PS(code, scale, v)
		}
		q.move(k.ADDQ)
		q.round("Rest")
		q.move(k.SUBQ)
	}
	k.ADDQ(op.U32(128), x)
	q.next()
	k.DECQ(blocks)
	k.JNE(op.LabelRef("block"))
	k.end()
	q.special("")
	if pairs {
		q.special("Rest")
	}
}

// recorder writes rounded blocks to the rows of a tile.
type recorder struct {
	k                                 *kernels
	dst, stride, third, record, upper reg.GPVirtual // stride enters as rows
	bits                              reg.GPVirtual
	scale                             reg.VecVirtual
	codes                             reg.VecVirtual // 32 bytes
}

// strides turns the rows of a tile into bytes.
func (q recorder) strides() {
	q.k.SHLQ(op.Imm(2), q.stride)
	q.k.LEAQ(op.Mem{Base: q.stride, Index: q.stride, Scale: 2}, q.third)
	q.k.IMUL3Q(op.Imm(intWords), q.stride, q.record)
}

// sums joins the sums of the columns of both halves, in the lanes of sum and high: sum
// becomes that of the block, first that of its first half.
func (q recorder) sums(sum, first, high reg.Register) {
	k := q.k
	k.VPUNPCKLQDQ(high, sum, first)
	k.VPUNPCKHQDQ(high, sum, high)
	k.VPADDD(high, first, first) // two lanes of each half
	k.VPSHUFD(op.Imm(0b10110001), first, high)
	k.VPADDD(high, first, first) // first, first, second, second half
	k.VPSHUFD(op.Imm(0b01001110), first, high)
	k.VPADDD(high, first, sum)
}

// write writes the record: high is the upper half of the codes, and used up.
func (q recorder) write(sum, first, high reg.Register) {
	k, stride, upper, bits := q.k, q.stride, q.upper, q.bits
	k.LEAQ(op.Mem{Base: q.dst, Index: stride, Scale: 4}, upper)
	for _, half := range []struct {
		from reg.Register
		base reg.GPVirtual
	}{{q.codes.AsX(), q.dst}, {high, upper}} {
		k.VPEXTRD(op.Imm(0), half.from, op.Mem{Base: half.base})
		k.VPEXTRD(op.Imm(1), half.from, op.Mem{Base: half.base, Index: stride, Scale: 1})
		k.VPEXTRD(op.Imm(2), half.from, op.Mem{Base: half.base, Index: stride, Scale: 2})
		k.VPEXTRD(op.Imm(3), half.from, op.Mem{Base: half.base, Index: q.third, Scale: 1})
	}
	k.LEAQ(op.Mem{Base: upper, Index: stride, Scale: 4}, upper) // scale, bias, sum, first bias
	k.VMOVSS(q.scale, op.Mem{Base: upper})
	k.VCVTDQ2PS(sum, high)
	k.VMULSS(q.scale, high, high)
	k.VMOVSS(high, op.Mem{Base: upper, Index: stride, Scale: 2})
	for _, half := range []struct {
		sum reg.Register
		to  op.Mem
	}{{sum, op.Mem{Base: upper, Index: stride, Scale: 1}}, {first, op.Mem{Base: upper, Index: q.third, Scale: 1}}} {
		k.VMOVD(half.sum, bits)
		k.SHLL(op.Imm(3), bits)
		k.NEGL(bits)
		k.MOVL(bits, half.to)
	}
}

// lineStrides turns the row of tiles of lines into where its codes and, with upper, its
// scale are.
func (q recorder) lineStrides() {
	k := q.k
	k.LEAQ(op.Mem{Base: q.dst, Index: q.stride, Scale: 4, Disp: lineScales}, q.upper)
	k.SHLQ(op.Imm(5), q.stride)
	k.ADDQ(q.stride, q.dst)
}

// writeLine writes the record of a row of a tile of lines; sum is used up.
func (q recorder) writeLine(sum reg.Register) {
	k := q.k
	k.VMOVDQU(q.codes, op.Mem{Base: q.dst})
	k.VMOVSS(q.scale, op.Mem{Base: q.upper})
	k.VCVTDQ2PS(sum, sum)
	k.VMULSS(q.scale, sum, sum)
	k.VMOVSS(sum, op.Mem{Base: q.upper, Disp: lineSums - lineScales})
}

// quantizer rounds blocks to int8, two registers each.
type quantizer struct {
	recorder
	lines                           bool
	magnitude, limit, toScale, ones reg.VecVirtual

	v [2]reg.VecVirtual // the block; its codes once they are rounded
}

// newQuantizer loads the constants; rows is that of a tile, or which row of a tile of lines
// is written.
func (k *kernels) newQuantizer(dst, rows reg.GPVirtual, lines bool) quantizer {
	r := recorder{k: k, dst: dst, stride: rows, third: k.GP64(), record: k.GP64(), upper: k.GP64(), bits: k.GP32(), scale: k.XMM(), codes: k.YMM()}
	q := quantizer{recorder: r, lines: lines, magnitude: k.constant512(math.Float32frombits(0x7fffffff)), limit: k.constant512(127), toScale: k.constant512(1.0 / 127),
		ones: k.YMM(), v: [2]reg.VecVirtual{k.ZMM(), k.ZMM()}}
	if lines {
		r.lineStrides()
	} else {
		r.strides()
	}
	k.MOVL(op.U32(0x01010101), q.bits)
	k.VPBROADCASTD(q.bits, q.ones)
	return q
}

// round writes the record of the block in v. Labels end with a suffix.
func (q quantizer) round(suffix string) {
	k, bits := q.k, q.bits
	peak, t, inverse := k.ZMM(), k.ZMM(), k.ZMM()
	sum, first, high := k.YMM(), k.XMM(), k.XMM()
	k.VPANDD(q.magnitude, q.v[0], peak)
	k.VPANDD(q.magnitude, q.v[1], t)
	k.VPMAXUD(t, peak, peak)
	largest := k.folded(peak, func(a, b reg.Register) { k.VPMAXUD(a, b, b) })
	k.VMOVD(largest, bits)
	k.VDIVSS(largest, q.limit.AsX(), inverse.AsX())
	k.VMULSS(q.toScale.AsX(), largest, q.scale)
	k.CMPL(bits, op.U32(math.Float32bits(smallestPeak)))
	k.JB(op.LabelRef("tiny" + suffix))
	k.CMPL(bits, op.U32(0x7f800000))
	k.JAE(op.LabelRef("endless" + suffix))
	k.VBROADCASTSS(inverse.AsX(), inverse)
	for _, r := range q.v {
		k.VMULPS(inverse, r, r)
		k.VCVTPS2DQ(r, r)
	}
	k.VPMOVDB(q.v[0], q.codes.AsX())
	k.VPMOVDB(q.v[1], sum.AsX())
	k.VINSERTI32X4(op.Imm(1), sum.AsX(), q.codes, q.codes)
	k.Label("store" + suffix)
	k.VPXORD(sum, sum, sum)
	k.VPDPBUSD(q.codes, q.ones, sum)
	k.VEXTRACTI32X4(op.Imm(1), sum, high)
	q.sums(sum.AsX(), first, high)
	if q.lines {
		q.writeLine(sum.AsX())
		return
	}
	k.VEXTRACTI32X4(op.Imm(1), q.codes, high)
	q.write(sum.AsX(), first, high)
}

// move goes to the next row of the tile by adding, to the one before by subtracting.
func (q quantizer) move(add func(amount, to op.Op)) {
	if q.lines {
		add(op.Imm(4), q.upper)
		add(op.Imm(lineBytes), q.dst)
		return
	}
	add(op.Imm(4), q.dst)
}

// next goes to the next block.
func (q quantizer) next() {
	if q.lines {
		q.k.ADDQ(op.U32(lineRecord), q.upper)
		q.k.ADDQ(op.U32(lineRecord), q.dst)
		return
	}
	q.k.ADDQ(q.record, q.dst)
}

// special stands outside the loop: a block that is taken for zeros, and one with a
// value that is not finite.
func (q quantizer) special(suffix string) {
	k := q.k
	k.Label("endless" + suffix)
	k.MOVL(op.U32(0x7fc00000), q.bits)
	k.VMOVD(q.bits, q.scale)
	k.JMP(op.LabelRef("zeros" + suffix))
	k.Label("tiny" + suffix)
	k.VXORPS(q.scale, q.scale, q.scale)
	k.Label("zeros" + suffix)
	k.VPXORD(q.codes, q.codes, q.codes)
	for _, v := range q.v {
		k.VPXORD(v, v, v)
	}
	k.JMP(op.LabelRef("store" + suffix))
}

// smallestPeak is the largest value below which a block is taken for zeros.
const smallestPeak = 1e-30
