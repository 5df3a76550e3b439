package main

import (
	"fmt"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// mapRows is the most rows that share the weights of a feature map.
const mapRows = 6

// mapAhead is how far, in bytes, the first layer prefetches: beyond its own
// weights it brings the second layer's.
const mapAhead = 4096

// mapsAVX512 writes the feature maps and the low-rank state.
func mapsAVX512(k *kernels) {
	avx512(k).maps()
	k.mapGELU512()
}

// mapsAVX2 is mapsAVX512 with half the width, and what it needs of whole rows.
func mapsAVX2(k *kernels) {
	avx2(k).maps()
	avx2(k).gelu256()
}

func (w width) maps() {
	for rows := 1; rows <= mapRows; rows++ {
		w.mapHidden(rows)
	}
	w.mapFeatures()
	w.absorb(8)
	w.absorb(1)
	w.queryRow()
	w.mix()
}

// mapRegisters is how many registers of hidden values one row has at a time:
// with six rows the sums fill three quarters of all registers.
func (w width) mapRegisters() int {
	if w.wide() {
		return 4
	}
	return 2
}

// rowsAt are the addresses of up to six rows that lie step bytes apart, from
// two pointers: the first row's and the fourth's.
func rowsAt(rows int, bases [2]reg.GPVirtual, step reg.GPVirtual) []op.Mem {
	m := make([]op.Mem, rows)
	for i := range m {
		m[i] = op.Mem{Base: bases[i/3]}
		if i%3 > 0 {
			m[i].Index, m[i].Scale = step, uint8(i%3)
		}
	}
	return m
}

// pointRows sets the second pointer of rowsAt.
func (k *kernels) pointRows(bases [2]reg.GPVirtual, step reg.GPVirtual) {
	k.LEAQ(op.Mem{Base: bases[0], Index: step, Scale: 2}, bases[1])
	k.ADDQ(step, bases[1])
}

// mapHidden: a block of hidden values of every row stays in registers over all
// columns of x.
func (w width) mapHidden(rows int) {
	registers := w.mapRegisters()
	block := registers * w.lanes
	name := fmt.Sprintf("mapHidden%d%s", rows, w.isa)
	p := w.begin(name, "func(hidden, x *float32, step uintptr, w *uint16, headDim, blocks uintptr)",
		fmt.Sprintf("writes hidden [%d, blocks·%d] = x · w for rows of x that lie step numbers apart and w [blocks, headDim, %d] bf16.", rows, block, block),
		"hidden", "x", "step", "w", "headDim", "blocks")
	hidden, x, step, weights, headDim, blocks := p[0], p[1], p[2], p[3], p[4], p[5]
	from, to := [2]reg.GPVirtual{w.GP64(), w.GP64()}, [2]reg.GPVirtual{hidden, w.GP64()}
	size, left := w.GP64(), w.GP64()
	w.SHLQ(op.Imm(2), step)
	w.IMUL3Q(op.U32(block*4), blocks, size)
	w.pointRows(to, size)
	w.Label("block")
	sums := make([][]reg.VecVirtual, rows)
	for i := range sums {
		sums[i] = w.zeros(registers)
	}
	w.MOVQ(x, from[0])
	w.pointRows(from, step)
	w.MOVQ(headDim, left)
	w.Label("column")
	wide, number := w.vecs(registers), w.vec()
	for i, v := range wide {
		w.widen(op.Mem{Base: weights, Disp: i * w.bytes() / 2}, v)
	}
	if rows == 1 { // as fast as memory: the second layer's weights lie behind
		for line := 0; line < block*2; line += 64 {
			w.PREFETCHT0(op.Mem{Base: weights, Disp: mapAhead + line})
		}
	}
	for i, m := range rowsAt(rows, from, step) {
		w.VBROADCASTSS(m, number)
		for j, v := range wide {
			w.VFMADD231PS(number, v, sums[i][j])
		}
	}
	w.ADDQ(op.Imm(4), from[0])
	if rows > 3 {
		w.ADDQ(op.Imm(4), from[1])
	}
	w.ADDQ(op.U32(block*2), weights)
	w.DECQ(left)
	w.JNE(op.LabelRef("column"))
	for i, m := range rowsAt(rows, to, size) {
		for j, s := range sums[i] {
			m.Disp = j * w.bytes()
			w.VMOVUPS(s, m)
		}
	}
	w.ADDQ(op.U32(block*4), to[0])
	w.ADDQ(op.U32(block*4), to[1])
	w.DECQ(blocks)
	w.JNE(op.LabelRef("block"))
	w.end()
}

// mapFeatures: eight features at a time, a lane of the hidden values each.
func (w width) mapFeatures() {
	p := w.begin("mapFeatures"+w.isa, "func(dst, hidden, w *float32, rows, chunks, groups uintptr)",
		fmt.Sprintf("writes dst [rows, groups·8] = hidden [rows, chunks·%d] · w [groups, chunks, 8, %d].", w.lanes, w.lanes),
		"dst", "hidden", "w", "rows", "chunks", "groups")
	dst, hidden, first, rows, chunks, groups := p[0], p[1], p[2], p[3], p[4], p[5]
	weights, at, group, left := w.GP64(), w.GP64(), w.GP64(), w.GP64()
	w.Label("row")
	w.MOVQ(first, weights)
	w.MOVQ(groups, group)
	w.Label("group")
	sums, v := w.zeros(8), w.vec()
	w.MOVQ(hidden, at)
	w.MOVQ(chunks, left)
	w.Label("chunk")
	w.VMOVUPS(op.Mem{Base: at}, v)
	for i, s := range sums {
		w.VFMADD231PS(op.Mem{Base: weights, Disp: i * w.bytes()}, v, s)
	}
	w.ADDQ(op.U32(w.bytes()), at)
	w.ADDQ(op.U32(8*w.bytes()), weights)
	w.DECQ(left)
	w.JNE(op.LabelRef("chunk"))
	w.sums(sums, func(i int, x reg.Register) { w.VMOVUPS(x, op.Mem{Base: dst, Disp: i * 4}) })
	w.ADDQ(op.Imm(32), dst)
	w.DECQ(group)
	w.JNE(op.LabelRef("group"))
	w.MOVQ(at, hidden)
	w.DECQ(rows)
	w.JNE(op.LabelRef("row"))
	w.end()
}

// absorb: the sums of a register of columns stay where they are over all tokens.
func (w width) absorb(features int) {
	p := w.begin(fmt.Sprintf("absorb%d%s", features, w.isa), "func(h, psi *float32, v *uint16, n, rank, headDim, columns uintptr)",
		fmt.Sprintf("adds psi [n, rank] times v [n, headDim] to %d rows of h [rank, headDim]; columns, a multiple of %d, are done.", features, w.lanes),
		"h", "psi", "v", "n", "rank", "headDim", "columns")
	h, psi, values, n, rank, headDim, columns := p[0], p[1], p[2], p[3], p[4], p[5], p[6]
	row, from, to := w.GP64(), w.GP64(), w.GP64()
	left := w.GP64()
	w.SHLQ(op.Imm(2), rank)
	w.MOVQ(headDim, row)
	w.SHLQ(op.Imm(1), row)
	w.SHLQ(op.Imm(2), headDim)
	w.Label("columns")
	sums, v, t := w.vecs(features), w.vec(), w.vec()
	walk := func(each func(sum reg.VecVirtual)) {
		w.MOVQ(h, to)
		for i, s := range sums {
			each(s)
			if i < features-1 {
				w.ADDQ(headDim, to)
			}
		}
	}
	walk(func(s reg.VecVirtual) { w.VMOVUPS(op.Mem{Base: to}, s) })
	w.MOVQ(psi, from)
	w.MOVQ(values, to)
	w.MOVQ(n, left)
	w.Label("token")
	w.widen(op.Mem{Base: to}, v)
	for i, s := range sums {
		w.fmaNumber(op.Mem{Base: from, Disp: i * 4}, v, s, t)
	}
	w.ADDQ(rank, from)
	w.ADDQ(row, to)
	w.DECQ(left)
	w.JNE(op.LabelRef("token"))
	walk(func(s reg.VecVirtual) { w.VMOVUPS(s, op.Mem{Base: to}) })
	w.ADDQ(op.U32(w.bytes()), h)
	w.ADDQ(op.U32(w.bytes()/2), values)
	w.SUBQ(op.U32(w.lanes), columns)
	w.JNE(op.LabelRef("columns"))
	w.end()
}

// queryRow: four registers of columns at a time, and then one.
func (w width) queryRow() {
	p := w.begin("queryRow"+w.isa, "func(out, phi, h *float32, keep, weight float32, rank, headDim, columns uintptr)",
		fmt.Sprintf("writes out [headDim] = keep · out + weight · phi [rank] · h [rank, headDim], not reading out where keep is 0; columns, a multiple of %d, are done.", w.lanes),
		"out", "phi", "h", "rank", "headDim", "columns")
	out, phi, h, rank, headDim, columns := p[0], p[1], p[2], p[3], p[4], p[5]
	number, row, left := w.GP64(), w.GP64(), w.GP64()
	keep, weight, t := w.parameter("keep"), w.parameter("weight"), w.vec()
	some := w.GP32()
	w.MOVL(w.paramMem("keep"), some)
	w.SHLQ(op.Imm(2), headDim)
	for _, registers := range []int{4, 1} {
		label := func(name string) string { return fmt.Sprint(name, registers) }
		w.Label(label("columns"))
		w.CMPQ(columns, op.U32(registers*w.lanes))
		w.JLT(op.LabelRef(label("end")))
		sums := w.zeros(registers)
		w.MOVQ(phi, number)
		w.MOVQ(h, row)
		w.MOVQ(rank, left)
		w.Label(label("feature"))
		w.VBROADCASTSS(op.Mem{Base: number}, t)
		for i, s := range sums {
			w.VFMADD231PS(op.Mem{Base: row, Disp: i * w.bytes()}, t, s)
		}
		w.ADDQ(op.Imm(4), number)
		w.ADDQ(headDim, row)
		w.DECQ(left)
		w.JNE(op.LabelRef(label("feature")))
		for _, s := range sums {
			w.VMULPS(weight, s, s)
		}
		w.TESTL(some, some)
		w.JEQ(op.LabelRef(label("write")))
		for i, s := range sums {
			w.VFMADD231PS(op.Mem{Base: out, Disp: i * w.bytes()}, keep, s)
		}
		w.Label(label("write"))
		for i, s := range sums {
			w.VMOVUPS(s, op.Mem{Base: out, Disp: i * w.bytes()})
		}
		w.ADDQ(op.U32(registers*w.bytes()), out)
		w.ADDQ(op.U32(registers*w.bytes()), h)
		w.SUBQ(op.U32(registers*w.lanes), columns)
		w.JMP(op.LabelRef(label("columns")))
		w.Label(label("end"))
	}
	w.end()
}

func (w width) mix() {
	p := w.begin("mix"+w.isa, "func(x, y *float32, a, b float32, n uintptr)",
		fmt.Sprintf("writes x = a·x + b·y of n numbers, a multiple of %d.", w.lanes), "x", "y", "n")
	a, b, v := w.parameter("a"), w.parameter("b"), w.vec()
	w.Label("loop")
	w.VMULPS(op.Mem{Base: p[0]}, a, v)
	w.VFMADD231PS(op.Mem{Base: p[1]}, b, v)
	w.VMOVUPS(v, op.Mem{Base: p[0]})
	w.ADDQ(op.U32(w.bytes()), p[0])
	w.ADDQ(op.U32(w.bytes()), p[1])
	w.SUBQ(op.U32(w.lanes), p[2])
	w.JNE(op.LabelRef("loop"))
	w.end()
}
