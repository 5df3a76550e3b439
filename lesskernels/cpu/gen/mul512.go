package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tokens512 is the most tokens of a tile: 12 float and 12 integer sums leave
// eight of the 32 registers for weights.
const tokens512 = 12

// tokensStreamed is the most tokens for which weights are prefetched: a batch of
// answers meets them once in a step, and up to here the memory is as slow as the
// arithmetic.
const tokensStreamed = 8

// How far, in bytes, kernels for few tokens prefetch plain weights, and keys and values. How
// far ahead weights in codes are asked for is a parameter: see codesAhead in package cpu.
const (
	weightsAhead = 4096
	ahead        = 2048
)

// mulAVX512 writes the products of one panel with 1 to 12 tokens. A register
// holds one value of each of the panel's 16 rows.
func mulAVX512(k *kernels) {
	for n := 1; n <= tokens512; n++ {
		for _, l := range []layout{floats, halves, brains} {
			k.mulFloats512(l, n)
		}
		for _, l := range []layout{nibbles, nibblesMin, octets, octetsMin, octetsHalves} {
			k.mulCodes512(l, n)
		}
		k.mulWords512(n)
	}
	k.addPairs512()
	k.addRows512()
	k.peak512()
}

// addPairs512 ends a product whose tokens have two rows each: see pairs in package
// cpu.
func (k *kernels) addPairs512() {
	p := k.begin("addPairsAVX512", "func(dst *float32, stride uintptr, src *float32, pairs uintptr)",
		"adds rows of 16 values of src two by two, and writes the sums every stride values.", "dst", "stride", "src", "pairs")
	k.SHLQ(op.Imm(2), p[1])
	v := k.ZMM()
	k.Label("pair")
	k.VMOVUPS(op.Mem{Base: p[2]}, v)
	k.VADDPS(op.Mem{Base: p[2], Disp: 64}, v, v)
	k.VMOVUPS(v, op.Mem{Base: p[0]})
	k.ADDQ(op.U32(128), p[2])
	k.ADDQ(p[1], p[0])
	k.DECQ(p[3])
	k.JNE(op.LabelRef("pair"))
	k.end()
}

// addRows512 ends a product that is added to what is there: see Product in package cpu.
func (k *kernels) addRows512() {
	p := k.begin("addRowsAVX512", "func(dst *float32, stride uintptr, src *float32, n uintptr)",
		"adds rows of 16 values of src to those of dst, stride values apart.", "dst", "stride", "src", "n")
	k.SHLQ(op.Imm(2), p[1])
	v := k.ZMM()
	k.Label("row")
	k.VMOVUPS(op.Mem{Base: p[2]}, v)
	k.VADDPS(op.Mem{Base: p[0]}, v, v)
	k.VMOVUPS(v, op.Mem{Base: p[0]})
	k.ADDQ(op.Imm(64), p[2])
	k.ADDQ(p[1], p[0])
	k.DECQ(p[3])
	k.JNE(op.LabelRef("row"))
	k.end()
}

// peak512 is the rate that no product can pass: VPDPBUSD from registers alone.
func (k *kernels) peak512() {
	p := k.begin("peakAVX512", "func(rounds uintptr)",
		fmt.Sprintf("does %d VPDPBUSD of 64 products in each of some rounds.", tokens512), "rounds")
	dots, w := k.zero512(tokens512), k.zero512(1)[0]
	k.Label("round")
	for _, dot := range dots {
		k.VPDPBUSD(w, w, dot)
	}
	k.DECQ(p[0])
	k.JNE(op.LabelRef("round"))
	k.end()
}

// mulArgs are the parameters of a product kernel in registers.
type mulArgs struct {
	dst, stride, x, codes, scales, units reg.GPVirtual
}

// mulBegin opens a product kernel and loads its parameters.
func (k *kernels) mulBegin(l layout, n int, isa, doc string) mulArgs {
	k.Function(mulName(l, n, isa))
	k.Attributes(attr.NOSPLIT)
	k.Pragma("noescape")
	k.SignatureExpr(mulSignature)
	k.Doc(fmt.Sprintf("%s multiplies a panel of %s with %d tokens%s.", mulName(l, n, isa), layoutNames[l], n, doc))
	a := mulArgs{k.GP64(), k.GP64(), k.GP64(), k.GP64(), k.GP64(), k.GP64()}
	k.Load(k.Param("dst"), a.dst)
	k.Load(k.Param("stride"), a.stride)
	k.Load(k.Param("x"), a.x)
	k.Load(k.Param("codes"), a.codes)
	k.Load(k.Param("scales"), a.scales)
	k.Load(k.Param("units"), a.units)
	k.SHLQ(op.Imm(2), a.stride)
	return a
}

// zero512 returns n cleared registers.
func (k *kernels) zero512(n int) []reg.VecVirtual {
	sums := make([]reg.VecVirtual, n)
	for i := range sums {
		sums[i] = k.ZMM()
		k.VPXORD(sums[i], sums[i], sums[i])
	}
	return sums
}

// store512 writes one register for each token and ends the kernel.
func (k *kernels) store512(a mulArgs, sums []reg.VecVirtual) {
	for i, s := range sums {
		k.VMOVUPS(s, op.Mem{Base: a.dst})
		if i < len(sums)-1 {
			k.ADDQ(a.stride, a.dst)
		}
	}
	k.VZEROUPPER()
	k.RET()
}

// mulFloats512: for every column, sums[t] += w · x[t].
func (k *kernels) mulFloats512(l layout, n int) {
	a := k.mulBegin(l, n, "AVX512", "")
	sums := k.zero512(n)
	w := k.ZMM()
	column := func(i int) {
		at := op.Mem{Base: a.codes, Disp: i * l.unitBytes()}
		switch l {
		case floats:
			k.VMOVUPS(at, w)
		case halves:
			k.VCVTPH2PS(at, w)
		default:
			k.VPMOVZXWD(at, w)
			k.VPSLLD(op.Imm(16), w, w)
		}
		for t, s := range sums {
			k.VFMADD231PS_BCST(op.Mem{Base: a.x, Disp: (i*n + t) * 4}, w, s)
		}
	}
	k.unrolled(a.units, 4, func(columns int) {
		if n <= 2 {
			k.PREFETCHT0(op.Mem{Base: a.codes, Disp: weightsAhead})
			if columns*l.unitBytes() > 64 {
				k.PREFETCHT0(op.Mem{Base: a.codes, Disp: weightsAhead + 64})
			}
		}
		for i := range columns {
			column(i)
		}
		k.ADDQ(op.U32(columns*l.unitBytes()), a.codes)
		k.ADDQ(op.U32(columns*n*4), a.x)
	})
	k.store512(a, sums)
}

// unrolled loops over count steps, some at a time and then one by one.
func (k *kernels) unrolled(count reg.GPVirtual, some int, body func(steps int)) {
	k.SUBQ(op.Imm(uint64(some)), count)
	k.JLT(op.LabelRef("rest"))
	k.Label("some")
	body(some)
	k.SUBQ(op.Imm(uint64(some)), count)
	k.JGE(op.LabelRef("some"))
	k.Label("rest")
	k.ADDQ(op.U32(some), count)
	k.JE(op.LabelRef("end"))
	k.Label("one")
	body(1)
	k.DECQ(count)
	k.JNE(op.LabelRef("one"))
	k.Label("end")
}

// mulCodes512: for every block of 32 columns, integer dot products by
// VPDPBUSD, then sums[t] += d·(dot·scale[t]) and, with minima, m·sum[t].
// Without minima the dot product starts at −8·Σx or −128·Σx. Halves of a block
// with a scale each are two such steps.
func (k *kernels) mulCodes512(l layout, n int) {
	a := k.mulBegin(l, n, "AVX512", " by VPDPBUSD")
	c := codes512{k: k, mulArgs: a, n: n, sums: k.zero512(n), low: k.ZMM(), high: k.ZMM(), mask: k.ZMM()}
	for range n {
		c.dots = append(c.dots, k.ZMM())
	}
	if l.codeBytes() == 256 {
		bits := k.GP32()
		k.MOVL(op.U32(0x0f0f0f0f), bits)
		k.VPBROADCASTD(bits, c.mask)
	}
	var ahead reg.GPVirtual
	if n <= tokensStreamed {
		ahead = k.GP64()
		k.Load(k.Param("ahead"), ahead)
	}
	k.Label("block")
	if n <= tokensStreamed {
		for line := 0; line < l.codeBytes()+l.scaleBytes(); line += 64 {
			k.PREFETCHT0(op.Mem{Base: a.codes, Index: ahead, Scale: 1, Disp: line})
		}
	}
	switch l {
	case nibbles:
		c.start(func(t int) { k.VPBROADCASTD(c.word(bias, t), c.dots[t]) })
		c.nibbles()
		c.scale(0, false)
	case nibblesMin:
		c.start(nil)
		c.nibbles()
		c.scale(0, true)
	case octets:
		c.start(func(t int) { k.VPSLLD_BCST(op.Imm(4), c.word(bias, t), c.dots[t]) })
		c.octets(0, 8)
		c.scale(0, false)
	case octetsMin:
		c.start(nil)
		c.octets(0, 8)
		c.scale(0, true)
	case octetsHalves:
		c.start(func(t int) { k.VPSLLD_BCST(op.Imm(4), c.word(firstBias, t), c.dots[t]) })
		c.octets(0, 4)
		c.scale(0, false)
		c.start(func(t int) {
			k.VPBROADCASTD(c.word(bias, t), c.dots[t])
			k.VPSUBD_BCST(c.word(firstBias, t), c.dots[t], c.dots[t])
			k.VPSLLD(op.Imm(4), c.dots[t], c.dots[t])
		})
		c.octets(4, 8)
		c.scale(32, false)
	}
	k.ADDQ(op.U32(l.codeBytes()+l.scaleBytes()), a.codes)
	k.ADDQ(op.U32(l.codeBytes()+l.scaleBytes()), a.scales)
	k.ADDQ(op.U32(n*intWords*4), a.x)
	k.DECQ(a.units)
	k.JNE(op.LabelRef("block"))
	k.store512(a, c.sums)
}

// The words of one token and block of integer activations: 8 of codes, then
// these.
const (
	scale     = 8
	bias      = 9  // −8·Σ codes
	sum       = 10 // scale·Σ codes
	firstBias = 11 // −8·Σ codes of the first half
	intWords  = 12
)

// codes512 is a product of codes under way: a sum and a dot product in
// progress for each of n tokens.
type codes512 struct {
	k *kernels
	mulArgs
	n               int
	sums, dots      []reg.VecVirtual
	low, high, mask reg.VecVirtual
}

// word is one of token t's words of the block.
func (c codes512) word(row, t int) op.Mem {
	return op.Mem{Base: c.x, Disp: (row*c.n + t) * 4}
}

// start sets every dot product, to zero without a function.
func (c codes512) start(set func(t int)) {
	for t, dot := range c.dots {
		if set != nil {
			set(t)
		} else {
			c.k.VPXORD(dot, dot, dot)
		}
	}
}

// nibbles multiplies four lines, whose low halves are columns 0–15.
func (c codes512) nibbles() {
	for line := range 4 {
		c.k.VMOVDQU32(op.Mem{Base: c.codes, Disp: line * 64}, c.low)
		c.k.VPSRLD(op.Imm(4), c.low, c.high)
		c.k.VPANDD(c.mask, c.low, c.low)
		c.k.VPANDD(c.mask, c.high, c.high)
		for t, dot := range c.dots {
			c.k.VPDPBUSD_BCST(c.word(line, t), c.low, dot)
		}
		for t, dot := range c.dots {
			c.k.VPDPBUSD_BCST(c.word(line+4, t), c.high, dot)
		}
	}
}

// octets multiplies lines [from, to), four columns each.
func (c codes512) octets(from, to int) {
	for line := from; line < to; line++ {
		c.k.VMOVDQU32(op.Mem{Base: c.codes, Disp: line * 64}, c.low)
		for t, dot := range c.dots {
			c.k.VPDPBUSD_BCST(c.word(line, t), c.low, dot)
		}
	}
}

// scale adds the dot products, times the scales at an offset, to the sums, and
// the minima.
func (c codes512) scale(at int, minima bool) {
	d, m := c.low, c.high
	c.k.VCVTPH2PS(op.Mem{Base: c.scales, Disp: at}, d)
	if minima {
		c.k.VCVTPH2PS(op.Mem{Base: c.scales, Disp: 32}, m)
	}
	for t, dot := range c.dots {
		c.k.VCVTDQ2PS(dot, dot)
		c.k.VMULPS_BCST(c.word(scale, t), dot, dot)
		c.k.VFMADD231PS(d, dot, c.sums[t])
		if minima {
			c.k.VFMADD231PS_BCST(c.word(sum, t), m, c.sums[t])
		}
	}
}
