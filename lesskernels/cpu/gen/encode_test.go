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
		got, err := encodeDot([]op.Op{test.m, test.v, test.dst})
		if err != nil || fmt.Sprintf("%x", got) != test.want {
			t.Errorf("%s, %s, %s: %x, %v, want %s", test.m.Asm(), test.v.Asm(), test.dst.Asm(), got, err, test.want)
		}
	}
	for _, m := range []op.Op{reg.Z1, op.Mem{Symbol: op.Symbol{Name: "table"}, Base: reg.StaticBase}} {
		if _, err := encodeDot([]op.Op{m, reg.Z1, reg.Z2}); err == nil {
			t.Errorf("%v was encoded", m)
		}
	}
}
