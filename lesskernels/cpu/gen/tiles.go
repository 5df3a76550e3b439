package main

import (
	"encoding/binary"
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/ir"
	op "github.com/mmcloughlin/avo/operand"
)

// Instructions on tiles, which neither avo nor Go's assembler knows: see encode. A tile
// is a number from 0 to 7.
const (
	tileConfig  = "LDTILECFG"
	tileRelease = "TILERELEASE"
	tileZero    = "TILEZERO"
	tileLoad    = "TILELOADD"
	tileStore   = "TILESTORED"
	tileDot     = "TDPBSSD"
)

// tile adds an instruction on tiles; memory comes first.
func (k *kernels) tile(opcode string, operands ...op.Op) {
	i := &ir.Instruction{Opcode: opcode, Operands: operands, ISA: []string{"AMX"}}
	if len(operands) > 0 {
		if m, ok := operands[0].(op.Mem); ok {
			i.Inputs = []op.Op{m}
		}
	}
	k.Instruction(i)
}

// encodeTile writes an instruction on tiles: VEX.128.0F38.W0 (Intel's manual, volume 2).
func encodeTile(opcode string, operands []op.Op) ([]byte, error) {
	var prefix, code byte // of prefixes, 0 is none, 2 F3 and 3 F2
	switch opcode {
	case tileConfig, tileRelease:
		prefix, code = 0, 0x49
	case tileZero:
		prefix, code = 3, 0x49
	case tileLoad:
		prefix, code = 3, 0x4b
	case tileStore:
		prefix, code = 2, 0x4b
	case tileDot:
		prefix, code = 3, 0x5e
	}
	vex := func(x, b, v int) []byte {
		return []byte{0xc4, 1<<7 | inverted(x, 3)<<6 | inverted(b, 3)<<5 | 2, byte(^v&15)<<3 | prefix, code}
	}
	tile := func(i int) int { return int(operands[i].(op.U8)) }
	switch opcode {
	case tileRelease:
		return append(vex(0, 0, 0), 0xc0), nil
	case tileZero:
		return append(vex(0, 0, 0), byte(0xc0|tile(0)<<3)), nil
	case tileDot:
		return append(vex(0, tile(1), tile(0)), byte(0xc0|tile(2)<<3|tile(1))), nil
	}
	m, ok := operands[0].(op.Mem)
	if !ok || m.Base == nil || m.Symbol.Name != "" {
		return nil, fmt.Errorf("%s of %v: only memory by a register is written", opcode, operands[0])
	}
	x, r := 0, 0
	if m.Index != nil {
		x = index(m.Index)
	}
	if opcode != tileConfig {
		r = tile(1)
	}
	return append(vex(x, index(m.Base), 0), addressed(m, r, 1)...), nil
}

// tileShapes is what LDTILECFG reads: tiles 0 to 2, and again 3 to 5, for dot products of
// 16 tokens and rows, the tokens' codes, and the rows' codes of so many columns.
func (k *kernels) tileShapes(name string, columns int) op.Mem {
	m := k.StaticGlobal(name + "Shapes")
	k.DataAttributes(attr.NOPTR | attr.RODATA)
	var shapes [64]byte
	shapes[0] = 1 // the palette
	for i := 0; i < 6; i += 3 {
		for j, shape := range [][2]int{{tileRows, 64}, {tileRows, columns}, {columns / 4, 64}} { // rows, bytes of each
			shapes[16+2*(i+j)], shapes[48+i+j] = byte(shape[1]), byte(shape[0])
		}
	}
	for i := 0; i < len(shapes); i += 8 {
		k.AddDatum(i, op.U64(binary.LittleEndian.Uint64(shapes[i:])))
	}
	return m
}
