package main

import (
	"fmt"
	"testing"

	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// TestEncodeDot compares with what GNU as 2.40 writes: vdpbf16ps m{1to16}, v, dst.
func TestEncodeDot(t *testing.T) {
	for _, test := range []struct {
		m      op.Mem
		v, dst reg.Register
		want   string
	}{
		{op.Mem{Base: reg.RAX}, reg.Z1, reg.Z2, "62f276585210"},
		{op.Mem{Base: reg.RAX, Disp: 4}, reg.Z31, reg.Z16, "62e20650524001"},
		{op.Mem{Base: reg.RBP}, reg.Z15, reg.Z8, "62720658524500"},
		{op.Mem{Base: reg.R13}, reg.Z0, reg.Z31, "62427e58527d00"},
		{op.Mem{Base: reg.RSP, Disp: 8}, reg.Z3, reg.Z4, "62f2665852642402"},
		{op.Mem{Base: reg.R12, Disp: 508}, reg.Z17, reg.Z9, "62527650524c247f"},
		{op.Mem{Base: reg.RDX, Disp: 512}, reg.Z24, reg.Z25, "62623e50528a00020000"},
		{op.Mem{Base: reg.R9, Disp: -512}, reg.Z7, reg.Z7, "62d24658527980"},
		{op.Mem{Base: reg.RDI, Disp: -516}, reg.Z30, reg.Z1, "62f20e50528ffcfdffff"},
		{op.Mem{Base: reg.RCX, Disp: 6}, reg.Z2, reg.Z3, "62f26e58529906000000"},
		{op.Mem{Base: reg.RBX, Index: reg.R10, Scale: 1, Disp: 60}, reg.Z5, reg.Z6, "62b256585274130f"},
		{op.Mem{Base: reg.R14, Index: reg.RSI, Scale: 2}, reg.Z20, reg.Z21, "62c25e50522c76"},
		{op.Mem{Base: reg.R8, Index: reg.R15, Scale: 4, Disp: 64}, reg.Z1, reg.Z0, "629276585244b810"},
		{op.Mem{Base: reg.RBP, Index: reg.RCX, Scale: 8}, reg.Z12, reg.Z29, "62621e58526ccd00"},
		{op.Mem{Base: reg.R13, Index: reg.RBP, Scale: 2, Disp: 4096}, reg.Z11, reg.Z23, "62c2265852bc6d00100000"},
	} {
		got, err := encodeDot(dotBrains, []op.Op{test.m, test.v, test.dst})
		if err != nil || fmt.Sprintf("%x", got) != test.want {
			t.Errorf("%s, %s, %s: %x, %v, want %s", test.m.Asm(), test.v.Asm(), test.dst.Asm(), got, err, test.want)
		}
	}
	for _, m := range []op.Op{reg.Z1, op.Mem{Symbol: op.Symbol{Name: "table"}, Base: reg.StaticBase}} {
		if _, err := encodeDot(dotBrains, []op.Op{m, reg.Z1, reg.Z2}); err == nil {
			t.Errorf("%v was encoded", m)
		}
	}
}

// TestEncodeTile compares with what GNU as 2.40 writes.
func TestEncodeTile(t *testing.T) {
	tiles := func(n ...int) []op.Op {
		var operands []op.Op
		for _, i := range n {
			operands = append(operands, op.U8(i))
		}
		return operands
	}
	at := func(base, index reg.Register, disp int) op.Mem {
		return op.Mem{Base: base, Index: index, Scale: 1, Disp: disp}
	}
	for _, test := range []struct {
		opcode   string
		operands []op.Op
		want     string
	}{
		{tileConfig, []op.Op{op.Mem{Base: reg.RAX}}, "c4e2784900"},                                   // ldtilecfg (%rax)
		{tileConfig, []op.Op{op.Mem{Base: reg.R12}}, "c4c278490424"},                                 // ldtilecfg (%r12)
		{tileRelease, nil, "c4e27849c0"},                                                             // tilerelease
		{tileZero, tiles(0), "c4e27b49c0"},                                                           // tilezero %tmm0
		{tileZero, tiles(7), "c4e27b49f8"},                                                           // tilezero %tmm7
		{tileDot, tiles(2, 1, 0), "c4e26b5ec1"},                                                      // tdpbssd %tmm2,%tmm1,%tmm0
		{tileDot, tiles(5, 6, 7), "c4e2535efe"},                                                      // tdpbssd %tmm5,%tmm6,%tmm7
		{tileLoad, append([]op.Op{at(reg.RAX, reg.RCX, 0)}, tiles(0)...), "c4e27b4b0408"},            // tileloadd (%rax,%rcx,1),%tmm0
		{tileLoad, append([]op.Op{at(reg.R13, reg.R9, 768)}, tiles(3)...), "c4827b4b9c0d00030000"},   // tileloadd 0x300(%r13,%r9,1),%tmm3
		{tileLoad, append([]op.Op{at(reg.RBP, reg.RBX, 0)}, tiles(2)...), "c4e27b4b541d00"},          // tileloadd 0x0(%rbp,%rbx,1),%tmm2
		{tileLoad, append([]op.Op{at(reg.R12, reg.R15, -4)}, tiles(7)...), "c4827b4b7c3cfc"},         // tileloadd -0x4(%r12,%r15,1),%tmm7
		{tileStore, append([]op.Op{at(reg.RDI, reg.RSI, 0)}, tiles(1)...), "c4e27a4b0c37"},           // tilestored %tmm1,(%rdi,%rsi,1)
		{tileStore, append([]op.Op{at(reg.R8, reg.RDX, 1024)}, tiles(6)...), "c4c27a4bb41000040000"}, // tilestored %tmm6,0x400(%r8,%rdx,1)
		{tileStore, append([]op.Op{at(reg.R13, reg.RBP, 127)}, tiles(4)...), "c4c27a4b642d7f"},       // tilestored %tmm4,0x7f(%r13,%rbp,1)
	} {
		got, err := encodeTile(test.opcode, test.operands)
		if err != nil || fmt.Sprintf("%x", got) != test.want {
			t.Errorf("%s %v: %x, %v, want %s", test.opcode, test.operands, got, err, test.want)
		}
	}
	if _, err := encodeTile(tileConfig, []op.Op{op.Mem{Symbol: op.Symbol{Name: "table"}, Base: reg.StaticBase}}); err == nil {
		t.Error("memory by a symbol was encoded")
	}
}
