package main

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/mmcloughlin/avo/ir"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"
)

// dotBrains is an instruction that neither avo nor Go's assembler knows: for every lane
// of float32, dst += a.low·b.low + a.high·b.high, where a lane of a and b is two bf16. It
// is written as bytes, as those on tiles are.
const dotBrains = "VDPBF16PS"

// VDPBF16PS_BCST adds the dot products of the pair at m, in every lane, with the
// pairs of v to dst. All but a prefix of its encoding, and which operands it reads
// and writes, are those of VPDPWSSD.
func (k *kernels) VDPBF16PS_BCST(m op.Mem, v, dst reg.VecVirtual) {
	i, err := x86.VPDPWSSD_BCST(m, v, dst)
	if err != nil {
		panic(err)
	}
	i.Opcode, i.Suffixes, i.ISA = dotBrains, []string{"BCST"}, []string{"AVX512BF16"}
	k.Instruction(i)
}

// encoders write the instructions that the assembler does not know, by opcode.
var encoders = map[string]func(opcode string, operands []op.Op) ([]byte, error){
	dotBrains:   encodeDot,
	tileConfig:  encodeTile,
	tileRelease: encodeTile,
	tileZero:    encodeTile,
	tileLoad:    encodeTile,
	tileStore:   encodeTile,
	tileDot:     encodeTile,
}

// encode replaces the instructions that the assembler does not know, whose
// registers are allocated, by their bytes.
func encode(f *ir.File) error {
	for _, function := range f.Functions() {
		var nodes []ir.Node
		for _, node := range function.Nodes {
			i, ok := node.(*ir.Instruction)
			if !ok || encoders[i.Opcode] == nil {
				nodes = append(nodes, node)
				continue
			}
			code, err := encoders[i.Opcode](i.Opcode, i.Operands)
			if err != nil {
				return fmt.Errorf("%s: %w", function.Name, err)
			}
			nodes = append(nodes, ir.NewComment(text(i)))
			for ; len(code) >= 4; code = code[4:] {
				nodes = append(nodes, &ir.Instruction{Opcode: "LONG", Operands: []op.Op{op.U32(binary.LittleEndian.Uint32(code))}})
			}
			for _, b := range code {
				nodes = append(nodes, &ir.Instruction{Opcode: "BYTE", Operands: []op.Op{op.U8(b)}})
			}
		}
		function.Nodes = nodes
	}
	return nil
}

// text is the instruction as the assembler would have it.
func text(i *ir.Instruction) string {
	operands := make([]string, len(i.Operands))
	for j, o := range i.Operands {
		operands[j] = o.Asm()
	}
	return strings.TrimSpace(i.OpcodeWithSuffixes() + " " + strings.Join(operands, ", "))
}

// encodeDot is EVEX.512.F3.0F38.W0 52 /r with a number of memory in every lane
// (Intel's manual, volume 2, sections 2.7 and VDPBF16PS).
func encodeDot(_ string, operands []op.Op) ([]byte, error) {
	m, ok := operands[0].(op.Mem)
	if !ok || m.Base == nil || m.Symbol.Name != "" {
		return nil, fmt.Errorf("%s of %v: only memory by a register is written", dotBrains, operands[0])
	}
	b, x, v, r := index(m.Base), 0, index(operands[1].(reg.Register)), index(operands[2].(reg.Register))
	if m.Index != nil {
		x = index(m.Index)
	}
	code := []byte{
		0x62,
		inverted(r, 3)<<7 | inverted(x, 3)<<6 | inverted(b, 3)<<5 | inverted(r, 4)<<4 | 2, // the map 0F38
		byte(^v&15)<<3 | 1<<2 | 2,       // W0, the prefix F3
		2<<5 | 1<<4 | inverted(v, 4)<<3, // 512 bits, broadcast
		0x52,
	}
	return append(code, addressed(m, r, 4)...), nil
}

// inverted is a bit of a register's number as prefixes hold it.
func inverted(n, bit int) byte { return byte(^n >> bit & 1) }

// addressed is the bytes that say which register and memory an instruction uses. Short
// displacements are multiples of a unit.
func addressed(m op.Mem, r, unit int) []byte {
	b := index(m.Base)
	modrm, sib := byte(r&7<<3|b&7), []byte(nil)
	if m.Index != nil || b&7 == 4 {
		scale := map[uint8]byte{0: 0, 1: 0, 2: 1, 4: 2, 8: 3}[m.Scale]
		i := byte(4) // none
		if m.Index != nil {
			i = byte(index(m.Index) & 7)
		}
		modrm, sib = modrm&^7|4, []byte{scale<<6 | i<<3 | byte(b&7)}
	}
	var displacement []byte
	switch {
	case m.Disp == 0 && b&7 != 5:
	case m.Disp%unit == 0 && int(int8(m.Disp/unit)) == m.Disp/unit:
		modrm |= 1 << 6
		displacement = []byte{byte(m.Disp / unit)}
	default:
		modrm |= 2 << 6
		displacement = binary.LittleEndian.AppendUint32(nil, uint32(m.Disp))
	}
	return append(append([]byte{modrm}, sib...), displacement...)
}

// index is the number of an allocated register.
func index(r reg.Register) int { return int(r.(reg.Physical).PhysicalIndex()) }
