package ptx

import (
	"strings"
	"testing"
)

// Whatever the interpreter does not know is refused when it is loaded, with its line.
func TestRefusals(t *testing.T) {
	for body, want := range map[string]string{
		"add.s32 %r1, %r2":                                    "2 operands in place of 3",
		"addx.s32 %r1, %r2, %r3":                              `unknown instruction "addx.s32 %r1, %r2, %r3;"`,
		"add.sat.s32 %r1, %r2, %r3":                           "unknown instruction",
		"atom.global.add.f32 %r1, [%rd1], %r2":                "unknown instruction",
		"add.s32 %rd1, 1, 2":                                  `"%rd1" is no register of 32 bits`,
		"add.s32 %r77, 1, 2":                                  `"%r77" is no register of 32 bits`,
		"add.s32 %r1, %clock, 2":                              `unknown operand "%clock"`,
		"add.f32 %r1, 0f3F8, 0f00000000":                      `unknown operand "0f3F8"`,
		"mov.b64 %rd1, 0d3FF000000000000":                     "unknown operand",
		"ld.global.b32 %r1, %rd1":                             `unknown address "%rd1"`,
		"ld.global.b32 %r1, [%rd1+%r2]":                       "unknown address",
		"ld.global.v2.b32 {%r1, %r2, %r3}, [%rd1]":            "3 registers for 2 values",
		"st.shared.v2.b32 [0], {1}":                           "1 registers for 2 values",
		"ld.param.b64 %rd1, [nothing]":                        "no parameter [nothing] of 64 bits",
		"ld.param.b32 %r1, [in]":                              "no parameter [in] of 32 bits",
		"bar.sync 1":                                          "unknown barrier",
		"@%r1 mov.b32 %r2, 0":                                 `"%r1" is no predicate`,
		"bra $nowhere":                                        `no label "$nowhere"`,
		"cp.async.cg.shared.global [0], [%rd30], 0x8, 8":      "a copy of 8 bytes",
		"cp.async.ca.shared.global [0], [%rd30], 0x3, 3":      "a copy of 3 bytes",
		"mov.b32 {%rs1, %rs2}, {1, 2}":                        "a move of 2 values to 2",
		"mov.b32 %r1, {1, 2, 3}":                              "a move of 3 values to 1",
		"shfl.sync.bfly.b32 %r1, %r2, 1, 15, -1":              "within parts of the warp",
		"shfl.sync.bfly.b32 %r1|%p1, %r2, 1, 31, -1":          "is no register of 32 bits",
		"ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1}, [0]": "1 registers for 4 matrices",
		"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r1}, {%r1}, {%r1}, {%r1}": "fragments of 1, 1, 1 and 1",
		"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%r1}, {%r1}, {%r1}, {%r1}":  "unknown instruction",
		"add.s32 %r1, 1, 2;add.s32 %r1, 1, 2":                                            "not one statement",
	} {
		_, err := New(1).Load(program(32, body+";"))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line ") {
			t.Errorf("%s: %v, want an error with its line that says %q", body, err, want)
		}
	}
	whole := program(32, "mov.b64 %rd1, 0;")
	for from, to := range map[string]string{
		".version 7.0": ".version 8.0", ".target sm_80": ".target sm_90a", ".reqntid 32": ".maxntid 32", ".param .u32": ".param .u16",
		".address_size 64": ".global .b32 counter;", ".reg .pred": ".reg .f16", "\tret;\n": "", "}\n": "",
	} {
		if !strings.Contains(whole, from) {
			t.Fatalf("no %q", from)
		}
		if _, err := New(1).Load(strings.Replace(whole, from, to, 1)); err == nil {
			t.Errorf("%q in place of %q is taken", to, from)
		}
	}
}
