package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// packedAVX512 writes the attention of a few queries over packed groups of 32
// tokens. For keys the lanes are a group's tokens and rows are channels; for values
// the lanes are channels and rows are tokens. Either way a result is a sum of rows
// of codes, each times one number of a query or a weight, into which the row's scale
// is multiplied first; and the minima of the rows add one number to all lanes.
func packedAVX512(k *kernels) {
	for _, bits := range []int{2, 4, 16} {
		for group := 1; group <= 4; group++ {
			p := packed{avx512(k), bits, group}
			p.keys()
			p.values()
		}
		packed{avx512(k), bits, 0}.unpack()
	}
}

// packed is a kernel for so many bits in a code and queries.
type packed struct {
	width
	bits, group int
}

// rows is how many rows of 32 codes share a line of 64 bytes.
func (p packed) rows() int { return 16 / p.bits }

// decoder returns code that puts the number of code i, of 2·rows in a line, into t.
func (p packed) decoder(name string) func(i int, line, t reg.VecVirtual) {
	if p.bits == 16 {
		odd := p.oddMask()
		return func(i int, line, t reg.VecVirtual) {
			if i == 0 {
				p.VPSLLD(op.Imm(16), line, t)
			} else {
				p.VPANDD(odd, line, t)
			}
		}
	}
	// The permutation looks at four bits of every lane: no mask is needed.
	m := p.StaticGlobal(name + "Codes")
	p.DataAttributes(attr.RODATA | attr.NOPTR)
	for i := range 16 {
		p.AppendDatum(op.F32(i % (1 << p.bits)))
	}
	table := p.vec()
	p.VMOVUPS(m, table)
	return func(i int, line, t reg.VecVirtual) {
		from := line
		if i > 0 {
			p.VPSRLD(op.Imm(uint64(p.bits*i)), line, t)
			from = t
		}
		p.VPERMPS(table, from, t)
	}
}

// lines adds n lines of codes to the sums [group][2]: at is where the number of a
// row and query is, from the line's first row on; step advances that by its rows.
func (p packed) lines(label string, codes, n reg.GPVirtual, decode func(int, reg.VecVirtual, reg.VecVirtual), sums [][]reg.VecVirtual, at func(row, query int) op.Mem, step func(rows int)) {
	line := p.vec()
	t := p.vecs(2)
	p.Label(label)
	p.VMOVDQU32(op.Mem{Base: codes}, line)
	p.PREFETCHT0(op.Mem{Base: codes, Disp: ahead})
	for i := range 2 * p.rows() {
		decode(i, line, t[i%2])
		for j := range sums {
			p.VFMADD231PS_BCST(at(i/2, j), t[i%2], sums[j][i%2])
		}
	}
	p.ADDQ(op.Imm(64), codes)
	step(p.rows())
	p.DECQ(n)
	p.JNE(op.LabelRef(label))
}

// spread returns the sum of the lanes of v, which is used up, in every lane.
func (p packed) spread(v reg.VecVirtual) reg.VecVirtual {
	t := p.vec()
	p.VBROADCASTSS(p.folded(v, p.add), t)
	return t
}

// strided is base plus j times stride, for j up to 3.
func strided(base, stride, third reg.GPVirtual, j, disp int) op.Mem {
	m := op.Mem{Base: base, Disp: disp}
	switch j {
	case 1, 2:
		m.Index, m.Scale = stride, uint8(j)
	case 3:
		m.Index, m.Scale = third, 1
	}
	return m
}

// keys: group after group.
func (p packed) keys() {
	name := fmt.Sprintf("packedKeys%dx%dAVX512", p.group, p.bits)
	r := p.begin(name, "func(scores *float32, stride uintptr, q, work *float32, groups *uint16, rows, n, size uintptr)",
		fmt.Sprintf("writes scores [%d, stride], 32 for each of n groups, of %d queries q [%d, rows in whole sixteens] and keys of %d bits [rows][32]; groups are size bytes apart, rows is a multiple of %d, work is as long as q.", p.group, p.group, p.group, p.bits, p.rows()),
		"scores", "q", "work", "groups", "rows") // the others stay in memory: registers are few
	scores, q, work, groups, rows := r[0], r[1], r[2], r[3], r[4]
	decode := p.decoder(name)
	step, third := p.GP64(), p.GP64()
	p.LEAQ(op.Mem{Base: rows, Disp: 15}, step)
	p.ANDQ(op.I32(-16), step)
	p.SHLQ(op.Imm(2), step)
	p.LEAQ(op.Mem{Base: step, Index: step, Scale: 2}, third)
	p.Label("group")
	sums := make([][]reg.VecVirtual, p.group)
	if p.bits == 16 {
		for j := range sums {
			sums[j] = p.zeros(2)
		}
	} else {
		for j, least := range p.scaleQueries(q, work, groups, rows, step, third) {
			sums[j] = []reg.VecVirtual{p.spread(least), p.vec()}
			p.VMOVAPS(sums[j][0], sums[j][1])
		}
	}
	codes, number, left := p.GP64(), p.GP64(), p.GP64()
	p.MOVQ(groups, codes)
	p.MOVQ(work, number)
	if p.bits == 16 {
		p.MOVQ(q, number)
	}
	p.MOVQ(rows, left)
	for n := p.rows(); n > 1; n /= 2 {
		p.SHRQ(op.Imm(1), left)
	}
	p.lines("lines", codes, left, decode, sums,
		func(row, query int) op.Mem { return strided(number, step, third, query, 4*row) },
		func(rows int) { p.ADDQ(op.Imm(uint64(4*rows)), number) })
	to, stride := codes, left
	p.MOVQ(scores, to)
	p.MOVQ(p.paramMem("stride"), stride)
	p.SHLQ(op.Imm(2), stride)
	for j := range sums {
		p.VMOVUPS(sums[j][0], op.Mem{Base: to})
		p.VMOVUPS(sums[j][1], op.Mem{Base: to, Disp: 64})
		if j < p.group-1 {
			p.ADDQ(stride, to)
		}
	}
	p.ADDQ(op.U32(128), scores)
	p.ADDQ(p.paramMem("size"), groups)
	p.DECQ(p.paramMem("n"))
	p.JNE(op.LabelRef("group"))
	p.end()
}

// scaleQueries writes work = q · scales, and returns for each query, lane by lane,
// what its minima add.
func (p packed) scaleQueries(q, work, groups, rows, step, third reg.GPVirtual) []reg.VecVirtual {
	scales, minima, from, to := p.GP64(), p.GP64(), p.GP64(), p.GP64()
	p.MOVQ(rows, scales)
	p.SHLQ(op.Imm(uint64(2+p.bits/2)), scales) // a row of 4 bits has 16 bytes, of 2 bits 8
	p.ADDQ(groups, scales)
	p.LEAQ(op.Mem{Base: scales, Index: rows, Scale: 2}, minima)
	p.MOVQ(q, from)
	p.MOVQ(work, to)
	left, some, all, mask := p.GP64(), p.GP64(), p.GP64(), p.K()
	p.MOVQ(rows, left)
	sums := p.zeros(p.group)
	halves, scale, least, x := p.YMM(), p.vec(), p.vec(), p.vec()
	p.Label("scales")
	p.MOVQ(op.I32(16), some)
	p.CMPQ(left, some)
	p.CMOVQLT(left, some)
	p.MOVQ(op.I32(-1), all)
	p.BZHIQ(some, all, all)
	p.KMOVW(all.As32(), mask)
	p.VMOVDQU16_Z(op.Mem{Base: scales}, mask, halves)
	p.VCVTPH2PS(halves, scale)
	p.VMOVDQU16_Z(op.Mem{Base: minima}, mask, halves)
	p.VCVTPH2PS(halves, least)
	for j := range p.group {
		p.VMOVUPS(strided(from, step, third, j, 0), x)
		p.VFMADD231PS(least, x, sums[j])
		p.VMULPS(scale, x, x)
		p.VMOVUPS(x, strided(to, step, third, j, 0))
	}
	p.ADDQ(op.Imm(32), scales)
	p.ADDQ(op.Imm(32), minima)
	p.ADDQ(op.Imm(64), from)
	p.ADDQ(op.Imm(64), to)
	p.SUBQ(op.Imm(16), left)
	p.JGT(op.LabelRef("scales"))
	return sums
}

// values: the sums stay in registers over all groups.
func (p packed) values() {
	name := fmt.Sprintf("packedValues%dx%dAVX512", p.group, p.bits)
	r := p.begin(name, "func(out, weights *float32, stride uintptr, work *float32, codes, scales, minima *uint16, n, size uintptr)",
		fmt.Sprintf("writes out [%d, 32] = weights [%d, stride], 32 for each of n groups, · 32 channels of values of %d bits [32 tokens][32]; groups are size bytes apart, work has %d numbers.", p.group, p.group, p.bits, 32*p.group),
		"out", "weights", "stride", "work", "codes", "scales", "minima", "n", "size")
	out, weights, stride, work, codes, scales, minima, n, size := r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8]
	decode := p.decoder(name)
	p.SHLQ(op.Imm(2), stride)
	third := p.GP64()
	p.LEAQ(op.Mem{Base: stride, Index: stride, Scale: 2}, third)
	sums := make([][]reg.VecVirtual, p.group)
	for j := range sums {
		sums[j] = p.zeros(2)
	}
	least := p.zeros(p.group)
	p.Label("group")
	at, number, left := p.GP64(), p.GP64(), p.GP64()
	p.MOVQ(codes, at)
	p.MOVQ(weights, number)
	p.MOVQ(op.I32(32/p.rows()), left)
	where := func(row, query int) op.Mem { return strided(number, stride, third, query, 4*row) }
	if p.bits < 16 {
		scale, minimum, x := p.vec(), p.vec(), p.vec()
		for half := range 2 {
			p.VCVTPH2PS(op.Mem{Base: scales, Disp: 32 * half}, scale)
			p.VCVTPH2PS(op.Mem{Base: minima, Disp: 32 * half}, minimum)
			for j := range p.group {
				p.VMOVUPS(strided(weights, stride, third, j, 64*half), x)
				p.VFMADD231PS(minimum, x, least[j])
				p.VMULPS(scale, x, x)
				p.VMOVUPS(x, op.Mem{Base: work, Disp: 128*j + 64*half})
			}
		}
		p.ADDQ(size, scales)
		p.ADDQ(size, minima)
		p.MOVQ(work, number)
		where = func(row, query int) op.Mem { return op.Mem{Base: number, Disp: 128*query + 4*row} }
	}
	p.lines("lines", at, left, decode, sums, where, func(rows int) { p.ADDQ(op.Imm(uint64(4*rows)), number) })
	p.ADDQ(op.U32(128), weights)
	p.ADDQ(size, codes)
	p.DECQ(n)
	p.JNE(op.LabelRef("group"))
	for j := range sums {
		all := p.spread(least[j])
		for half, sum := range sums[j] {
			p.VADDPS(all, sum, sum)
			p.VMOVUPS(sum, op.Mem{Base: out, Disp: 128*j + 64*half})
		}
	}
	p.end()
}

// unpack: line by line, for many queries.
func (p packed) unpack() {
	name := fmt.Sprintf("unpack%dAVX512", p.bits)
	r := p.begin(name, "func(dst *float32, stride uintptr, work *float32, codes, scales, minima *uint16, rows uintptr)",
		fmt.Sprintf("writes rows of 32 numbers of %d bits to dst, stride numbers apart; rows is a multiple of %d. work has room for two numbers of each row, in whole sixteens.", p.bits, p.rows()),
		"dst", "stride", "work", "codes", "scales", "minima", "rows")
	dst, stride, work, codes, scales, minima, rows := r[0], r[1], r[2], r[3], r[4], r[5], r[6]
	decode := p.decoder(name)
	p.SHLQ(op.Imm(2), stride)
	size := p.GP64()
	if p.bits < 16 {
		p.LEAQ(op.Mem{Base: rows, Disp: 15}, size)
		p.ANDQ(op.I32(-16), size)
		p.SHLQ(op.Imm(2), size)
		p.widenScales(work, size, scales, minima, rows)
	}
	for n := p.rows(); n > 1; n /= 2 {
		p.SHRQ(op.Imm(1), rows)
	}
	line, t, least := p.vec(), p.vecs(2), p.vec()
	p.Label("lines")
	p.VMOVDQU32(op.Mem{Base: codes}, line)
	for row := range p.rows() {
		for half := range 2 {
			decode(2*row+half, line, t[half])
		}
		if p.bits < 16 {
			p.VBROADCASTSS(op.Mem{Base: work, Index: size, Scale: 1, Disp: 4 * row}, least)
			for half := range 2 {
				p.VFMADD132PS_BCST(op.Mem{Base: work, Disp: 4 * row}, least, t[half])
			}
		}
		for half := range 2 {
			p.VMOVUPS(t[half], op.Mem{Base: dst, Disp: 64 * half})
		}
		p.ADDQ(stride, dst)
	}
	p.ADDQ(op.Imm(64), codes)
	p.ADDQ(op.Imm(uint64(4*p.rows())), work)
	p.DECQ(rows)
	p.JNE(op.LabelRef("lines"))
	p.end()
}

// widenScales writes scales and, size bytes behind them, minima as float32.
func (p packed) widenScales(work, size, scales, minima, rows reg.GPVirtual) {
	to, left, some, all, mask := p.GP64(), p.GP64(), p.GP64(), p.GP64(), p.K()
	halves, x := p.YMM(), p.vec()
	p.MOVQ(work, to)
	p.MOVQ(rows, left)
	p.Label("scales")
	p.MOVQ(op.I32(16), some)
	p.CMPQ(left, some)
	p.CMOVQLT(left, some)
	p.MOVQ(op.I32(-1), all)
	p.BZHIQ(some, all, all)
	p.KMOVW(all.As32(), mask)
	p.VMOVDQU16_Z(op.Mem{Base: scales}, mask, halves)
	p.VCVTPH2PS(halves, x)
	p.VMOVUPS(x, op.Mem{Base: to})
	p.VMOVDQU16_Z(op.Mem{Base: minima}, mask, halves)
	p.VCVTPH2PS(halves, x)
	p.VMOVUPS(x, op.Mem{Base: to, Index: size, Scale: 1})
	p.ADDQ(op.Imm(32), scales)
	p.ADDQ(op.Imm(32), minima)
	p.ADDQ(op.Imm(64), to)
	p.SUBQ(op.Imm(16), left)
	p.JGT(op.LabelRef("scales"))
}
