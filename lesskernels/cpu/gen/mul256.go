package main

import (
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// tokens256 is the most tokens of a tile in 16 registers: for plain numbers
// both halves of the panel at once, for codes one half after the other.
func tokens256(l layout) int {
	switch {
	case l <= brains:
		return 6
	case l == words:
		return 0
	}
	return 4
}

// mulAVX2 writes the products of one panel with few tokens. A register holds
// one value of each of 8 rows.
func mulAVX2(k *kernels) {
	for _, l := range []layout{floats, halves, brains} {
		for n := 1; n <= tokens256(l); n++ {
			k.mulFloats256(l, n)
		}
	}
	for _, l := range []layout{nibbles, nibblesMin, octets, octetsMin, octetsHalves} {
		for n := 1; n <= tokens256(l); n++ {
			k.mulCodes256(l, n)
		}
	}
}

// zero256 returns n cleared registers.
func (k *kernels) zero256(n int) []reg.VecVirtual {
	sums := make([]reg.VecVirtual, n)
	for i := range sums {
		sums[i] = k.YMM()
		k.VXORPS(sums[i], sums[i], sums[i])
	}
	return sums
}

// mulFloats256: for every column, sums[half][t] += w[half] · x[t].
func (k *kernels) mulFloats256(l layout, n int) {
	a := k.mulBegin(l, n, "AVX2", "")
	sums := [2][]reg.VecVirtual{k.zero256(n), k.zero256(n)}
	w := [2]reg.VecVirtual{k.YMM(), k.YMM()}
	x := k.YMM()
	k.unrolled(a.units, 4, func(columns int) {
		for i := range columns {
			for h := range w {
				at := op.Mem{Base: a.codes, Disp: i*l.unitBytes() + h*l.unitBytes()/2}
				switch l {
				case floats:
					k.VMOVUPS(at, w[h])
				case halves:
					k.VCVTPH2PS(at, w[h])
				default:
					k.VPMOVZXWD(at, w[h])
					k.VPSLLD(op.Imm(16), w[h], w[h])
				}
			}
			for t := range n {
				k.VBROADCASTSS(op.Mem{Base: a.x, Disp: (i*n + t) * 4}, x)
				k.VFMADD231PS(x, w[0], sums[0][t])
				k.VFMADD231PS(x, w[1], sums[1][t])
			}
		}
		k.ADDQ(op.U32(columns*l.unitBytes()), a.codes)
		k.ADDQ(op.U32(columns*n*4), a.x)
	})
	for t := range n {
		k.VMOVUPS(sums[0][t], op.Mem{Base: a.dst})
		k.VMOVUPS(sums[1][t], op.Mem{Base: a.dst, Disp: 32})
		k.ADDQ(a.stride, a.dst)
	}
	k.VZEROUPPER()
	k.RET()
}

// mulCodes256 does the first 8 rows of a panel, and package cpu calls it again
// 32 bytes into the codes for the other 8. VPMADDUBSW adds two products in 16
// bits: codes below 32 leave room for eight or four such sums, and 8-bit codes
// are split into magnitude and sign, whose two products just fit.
func (k *kernels) mulCodes256(l layout, n int) {
	a := k.mulBegin(l, n, "AVX2", ", 8 rows")
	sums, dots := k.zero256(n), k.zero256(n)
	word := func(row, t int) op.Mem { return op.Mem{Base: a.x, Disp: (row*n + t) * 4} }

	k.Label("block")
	switch l {
	case octets:
		k.signedDots(a, dots, word, 0, 8)
	case octetsHalves:
		k.signedDots(a, dots, word, 0, 4)
		k.scale256(a, dots, sums, word, 0)
		k.signedDots(a, dots, word, 4, 8)
	case octetsMin:
		k.octetDots(a, dots, word)
	default:
		k.nibbleDots(a, dots, word)
	}
	if l == nibbles {
		x := k.YMM()
		for t, dot := range dots {
			k.VPBROADCASTD(word(bias, t), x)
			k.VPADDD(x, dot, dot)
		}
	}
	if l == octetsHalves {
		k.scale256(a, dots, sums, word, 32)
	} else {
		k.scale256(a, dots, sums, word, 0)
	}
	if l.hasMin() {
		m, x := k.YMM(), k.YMM()
		k.VCVTPH2PS(op.Mem{Base: a.scales, Disp: 32}, m)
		for t := range dots {
			k.VBROADCASTSS(word(sum, t), x)
			k.VFMADD231PS(x, m, sums[t])
		}
	}
	k.ADDQ(op.U32(l.codeBytes()+l.scaleBytes()), a.codes)
	k.ADDQ(op.U32(l.codeBytes()+l.scaleBytes()), a.scales)
	k.ADDQ(op.U32(n*intWords*4), a.x)
	k.DECQ(a.units)
	k.JNE(op.LabelRef("block"))
	for t := range n {
		k.VMOVUPS(sums[t], op.Mem{Base: a.dst})
		k.ADDQ(a.stride, a.dst)
	}
	k.VZEROUPPER()
	k.RET()
}

// scale256 adds the dot products, times the scales at an offset, to the sums.
func (k *kernels) scale256(a mulArgs, dots, sums []reg.VecVirtual, word func(row, t int) op.Mem, at int) {
	d, x := k.YMM(), k.YMM()
	k.VCVTPH2PS(op.Mem{Base: a.scales, Disp: at}, d)
	for t, dot := range dots {
		k.VCVTDQ2PS(dot, dot)
		k.VBROADCASTSS(word(scale, t), x)
		k.VMULPS(x, dot, dot)
		k.VFMADD231PS(d, dot, sums[t])
	}
}

// ones256 returns 16 words of one.
func (k *kernels) ones256() reg.VecVirtual {
	ones := k.YMM()
	k.VPCMPEQW(ones, ones, ones)
	k.VPSRLW(op.Imm(15), ones, ones)
	return ones
}

// nibbleDots: eight sums of two products of at most 15·127 fit into 16 bits.
func (k *kernels) nibbleDots(a mulArgs, dots []reg.VecVirtual, word func(row, t int) op.Mem) {
	mask, low, high, x := k.YMM(), k.YMM(), k.YMM(), k.YMM()
	bits := k.GP32()
	k.MOVL(op.U32(0x0f0f0f0f), bits)
	k.VMOVD(bits, mask.AsX())
	k.VPBROADCASTD(mask.AsX(), mask)
	for line := range 4 {
		k.VMOVDQU(op.Mem{Base: a.codes, Disp: line * 64}, low)
		k.VPSRLD(op.Imm(4), low, high)
		k.VPAND(mask, low, low)
		k.VPAND(mask, high, high)
		for t, dot := range dots {
			k.VPBROADCASTD(word(line, t), x)
			if line == 0 {
				k.VPMADDUBSW(x, low, dot)
			} else {
				k.VPMADDUBSW(x, low, x)
				k.VPADDW(x, dot, dot)
			}
			k.VPBROADCASTD(word(line+4, t), x)
			k.VPMADDUBSW(x, high, x)
			k.VPADDW(x, dot, dot)
		}
	}
	ones := k.ones256()
	for _, dot := range dots {
		k.VPMADDWD(ones, dot, dot)
	}
}

// octetDots: codes are below 32, so that four sums of two products of at most
// 31·127 fit into 16 bits.
func (k *kernels) octetDots(a mulArgs, dots []reg.VecVirtual, word func(row, t int) op.Mem) {
	w, x, ones := k.YMM(), k.YMM(), k.ones256()
	halves := make([]reg.VecVirtual, len(dots))
	for t := range halves {
		halves[t] = k.YMM()
	}
	for line := range 8 {
		k.VMOVDQU(op.Mem{Base: a.codes, Disp: line * 64}, w)
		for t, half := range halves {
			k.VPBROADCASTD(word(line, t), x)
			if line%4 == 0 {
				k.VPMADDUBSW(x, w, half)
			} else {
				k.VPMADDUBSW(x, w, x)
				k.VPADDW(x, half, half)
			}
		}
		switch line {
		case 3:
			for t, dot := range dots {
				k.VPMADDWD(ones, halves[t], dot)
			}
		case 7:
			for t, dot := range dots {
				k.VPMADDWD(ones, halves[t], halves[t])
				k.VPADDD(halves[t], dot, dot)
			}
		}
	}
}

// signedDots: the signed weight is code − 128; |w|·(x·sign w) sums two
// products of at most 128·127, which fit, and needs no bias. Lines [from, to).
func (k *kernels) signedDots(a mulArgs, dots []reg.VecVirtual, word func(row, t int) op.Mem, from, to int) {
	flip, w, size, x, ones := k.YMM(), k.YMM(), k.YMM(), k.YMM(), k.ones256()
	bits := k.GP32()
	k.MOVL(op.U32(0x80808080), bits)
	k.VMOVD(bits, flip.AsX())
	k.VPBROADCASTD(flip.AsX(), flip)
	for line := from; line < to; line++ {
		k.VMOVDQU(op.Mem{Base: a.codes, Disp: line * 64}, w)
		k.VPXOR(flip, w, w)
		k.VPABSB(w, size)
		for t, dot := range dots {
			k.VPBROADCASTD(word(line, t), x)
			k.VPSIGNB(w, x, x)
			k.VPMADDUBSW(x, size, x)
			if line == from {
				k.VPMADDWD(ones, x, dot)
			} else {
				k.VPMADDWD(ones, x, x)
				k.VPADDD(x, dot, dot)
			}
		}
	}
}
