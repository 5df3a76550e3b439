package main

import (
	"fmt"
	"strings"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Of lines and of unpacked panels: see mulLines in package cpu.
const (
	blockLen   = 32
	tileRows   = 16 // rows of a tile of lines
	lineBytes  = blockLen
	lineScales = tileRows * lineBytes    // where the scales of a block's lines are
	lineSums   = lineScales + tileRows*4 // and the scales times sums
	lineRecord = lineSums + tileRows*4
	tileBytes  = tileRows * 64 // of dot products
	stepTiles  = 2             // of a step: of two blocks, or of the halves of one

	panelRecordCodes = blockLen * 16
	panelRecord      = panelRecordCodes + 2*64 // and scales, and minima or second scales
)

// mulAMX writes products of unpacked panels with tiles of 16 tokens, and what unpacks.
func mulAMX(k *kernels) {
	for _, l := range []layout{nibbles, nibblesMin, octets, octetsMin, octetsHalves} {
		k.unpackAMX(l)
	}
	for _, c := range []struct {
		name, doc    string
		minima, half bool
	}{
		{"mulLinesAMX", "", false, false},
		{"mulLinesMinAMX", " and minima", true, false},
		{"mulLinesHalvesAMX", " for each half of a block", false, true},
	} {
		k.mulLinesAMX(c.name, c.doc, c.minima, c.half)
	}
}

// unpackAMX: see mulLinesAMX in package cpu. Codes become signed ones.
func (k *kernels) unpackAMX(l layout) {
	p := k.begin("unpack"+strings.ToUpper(layoutNames[l][:1])+layoutNames[l][1:]+"AMX", "func(dst, codes *byte, units uintptr)",
		fmt.Sprintf("unpacks a panel of %s for mulLinesAMX.", layoutNames[l]), "dst", "codes", "units")
	dst, codes, units := p[0], p[1], p[2]
	word := func(x uint32) reg.VecVirtual {
		bits, v := k.GP32(), k.ZMM()
		k.MOVL(op.U32(x), bits)
		k.VPBROADCASTD(bits, v)
		return v
	}
	var mask, offset reg.VecVirtual
	if l.codeBytes() == 256 {
		mask = word(0x0f0f0f0f)
	}
	switch l {
	case nibbles:
		offset = word(0x08080808)
	case octets, octetsHalves:
		offset = word(0x80808080)
	}
	low, high := k.ZMM(), k.ZMM()
	put := func(v reg.VecVirtual, line int) {
		if offset != nil {
			k.VPSUBB(offset, v, v)
		}
		k.VMOVDQU32(v, op.Mem{Base: dst, Disp: line * 64})
	}
	k.Label("block")
	for line := range l.codeBytes() / 64 {
		k.VMOVDQU32(op.Mem{Base: codes, Disp: line * 64}, low)
		if mask != nil {
			k.VPSRLD(op.Imm(4), low, high)
			k.VPANDD(mask, low, low)
			k.VPANDD(mask, high, high)
			put(high, line+4)
		}
		put(low, line)
	}
	for i := range l.scaleBytes() / 32 {
		k.VCVTPH2PS(op.Mem{Base: codes, Disp: l.codeBytes() + i*32}, low)
		k.VMOVUPS(low, op.Mem{Base: dst, Disp: panelRecordCodes + i*64})
	}
	k.ADDQ(op.U32(l.codeBytes()+l.scaleBytes()), codes)
	k.ADDQ(op.U32(panelRecord), dst)
	k.DECQ(units)
	k.JNE(op.LabelRef("block"))
	k.end()
}

// mulLinesAMX: for every tile of lines and block of 32 columns, integer dot products of 16
// tokens and 16 rows by one instruction, then sums[t] += d·(dot·scale[t]) and, with minima,
// m·sum[t], in the order of mulCodes512. The dot products of a step, which pass through
// memory, are made while those of the step before are scaled. What bounds the kernel on
// Sapphire Rapids is the scaling: while tiles are used, and some 400 cycles longer, it
// has one unit for 512 bits of float32 in place of two.
func (k *kernels) mulLinesAMX(name, doc string, minima, half bool) {
	p := k.begin(name, "func(dst *float32, stride uintptr, x *uint32, tiles uintptr, panel *byte, units uintptr, room *byte)",
		"multiplies an unpacked panel with tiles of 16 tokens by TDPBSSD, with scales"+doc+".", "dst", "stride", "x", "tiles", "panel", "units", "room")
	l := lines{k: k, x: p[2], panel: p[4], room: p[6], other: k.GP64(), by32: k.GP64(), by64: k.GP64(), minima: minima, parts: 1}
	dst, stride, tiles, units, first := p[0], p[1], p[3], p[5], k.GP64()
	if half {
		l.parts = 2
	}
	step := stepTiles / l.parts
	config := k.GP64()
	k.LEAQ(k.tileShapes(name, lineBytes/l.parts), config)
	k.tile(tileConfig, op.Mem{Base: config})
	k.MOVQ(op.U32(lineBytes), l.by32)
	k.MOVQ(op.U32(64), l.by64)
	k.SHLQ(op.Imm(2), stride)
	k.LEAQ(op.Mem{Base: l.room, Disp: stepTiles * tileBytes}, l.other)
	k.MOVQ(l.panel, first)
	l.sums = make([]reg.VecVirtual, tileRows)
	for t := range l.sums {
		l.sums[t] = k.ZMM()
	}
	l.d, l.m, l.dots = k.ZMM(), k.ZMM(), []reg.VecVirtual{k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM(), k.ZMM()}

	k.Label("tile")
	for _, s := range l.sums {
		k.VPXORD(s, s, s)
	}
	k.MOVQ(first, l.panel)
	count := k.GP64()
	k.MOVQ(units, count)
	if !half { // the first of an odd number
		k.SHRQ(op.Imm(1), count)
		k.JCC(op.LabelRef("even"))
		l.multiply(0, 1)
		l.scale(l.room, 1)
		l.advance(1)
		k.Label("even")
		k.TESTQ(count, count)
		k.JE(op.LabelRef("store"))
	}
	l.multiply(0, stepTiles)
	k.DECQ(count)
	k.JE(op.LabelRef("last"))
	k.Label("blocks")
	k.XCHGQ(l.room, l.other)
	l.multiply(step, stepTiles)
	l.scale(l.other, stepTiles)
	l.advance(step)
	k.DECQ(count)
	k.JNE(op.LabelRef("blocks"))
	k.Label("last")
	l.scale(l.room, stepTiles)
	l.advance(step)
	k.Label("store")
	for _, s := range l.sums {
		k.VMOVUPS(s, op.Mem{Base: dst})
		k.ADDQ(stride, dst)
	}
	k.DECQ(tiles)
	k.JNE(op.LabelRef("tile"))
	k.tile(tileRelease)
	k.end()
}

// lines is a product of a tile of lines under way.
type lines struct {
	k                                 *kernels
	x, panel, room, other, by32, by64 reg.GPVirtual
	sums, dots                        []reg.VecVirtual // of each token; some
	d, m                              reg.VecVirtual
	parts                             int // of a block, with a scale each
	minima                            bool
}

// multiply writes n tiles of dot products, of blocks so many ahead, to room.
func (l lines) multiply(ahead, n int) {
	for i := range n {
		block, part := ahead+i/l.parts, i%l.parts
		c, a, b := op.U8(3*i), op.U8(3*i+1), op.U8(3*i+2)
		l.k.tile(tileLoad, op.Mem{Base: l.panel, Disp: block*panelRecord + part*panelRecordCodes/2, Index: l.by64, Scale: 1}, b)
		l.k.tile(tileLoad, op.Mem{Base: l.x, Disp: block*lineRecord + part*lineBytes/2, Index: l.by32, Scale: 1}, a)
		l.k.tile(tileZero, c)
		l.k.tile(tileDot, b, a, c)
		l.k.tile(tileStore, op.Mem{Base: l.room, Disp: i * tileBytes, Index: l.by64, Scale: 1}, c)
	}
}

// scale adds n tiles of dot products to the sums.
func (l lines) scale(room reg.GPVirtual, n int) {
	for i := range n {
		part, scales, x := i%l.parts, i/l.parts*panelRecord+panelRecordCodes, i/l.parts*lineRecord
		l.k.VMOVUPS(op.Mem{Base: l.panel, Disp: scales + part*64}, l.d)
		if l.minima {
			l.k.VMOVUPS(op.Mem{Base: l.panel, Disp: scales + 64}, l.m)
		}
		for t, s := range l.sums {
			dot := l.dots[t%len(l.dots)]
			l.k.VCVTDQ2PS(op.Mem{Base: room, Disp: i*tileBytes + t*64}, dot)
			l.k.VMULPS_BCST(op.Mem{Base: l.x, Disp: x + lineScales + t*4}, dot, dot)
			l.k.VFMADD231PS(l.d, dot, s)
			if l.minima {
				l.k.VFMADD231PS_BCST(op.Mem{Base: l.x, Disp: x + lineSums + t*4}, l.m, s)
			}
		}
	}
}

// advance goes on by n blocks.
func (l lines) advance(n int) {
	l.k.ADDQ(op.U32(n*lineRecord), l.x)
	l.k.ADDQ(op.U32(n*panelRecord), l.panel)
}
