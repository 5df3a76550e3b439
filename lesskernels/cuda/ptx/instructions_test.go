package ptx

import (
	"math"
	"regexp"
	"strings"
	"testing"
)

var (
	firstTarget = regexp.MustCompile(`(%\w+?)1\b`)
	widenTarget = map[string]string{"%rs": "cvt.u64.u16 %rd1, %rs1", "%r": "cvt.u64.u32 %rd1, %r1", "%rd": "mov.b64 %rd1, %rd1", "%p": "selp.b64 %rd1, 1, 0, %p1"}
)

// Every instruction is tried with what tells its variants apart: signs, widths,
// overflow, NaN.
func TestInstructions(t *testing.T) {
	for body, want := range map[string]uint64{
		// integers
		"add.s16 %rs1, 0xffffU, 2":                        1,
		"add.s32 %r1, 0xffffffffU, 2":                     1,
		"add.s64 %rd1, 0xffffffffU, 2":                    0x100000001,
		"sub.s32 %r1, 1, 2":                               0xffffffff,
		"sub.s64 %rd1, 1, 2":                              math.MaxUint64,
		"mul.lo.s32 %r1, 0x10001U, 0x10001U":              0x20001,
		"mul.lo.s64 %rd1, 0x10001U, 0x10001U":             0x100020001,
		"mul.wide.s32 %rd1, -2, 3":                        math.MaxUint64 - 5,
		"mul.wide.u32 %rd1, -2, 3":                        0x2fffffffa,
		"mad.lo.s32 %r1, -2, 3, 4":                        0xfffffffe,
		"mad.lo.s64 %rd1, -2, 3, 4":                       math.MaxUint64 - 1,
		"mad.wide.s32 %rd1, -2, 3, 7":                     1,
		"mad.wide.u32 %rd1, -2, 3, 1":                     0x2fffffffb,
		"div.s32 %r1, -7, 2":                              0xfffffffd,
		"rem.s32 %r1, -7, 2":                              0xffffffff,
		"neg.s32 %r1, 1":                                  0xffffffff,
		"min.s32 %r1, -1, 1":                              0xffffffff,
		"min.u32 %r1, -1, 1":                              1,
		"max.s32 %r1, -1, 1":                              1,
		"max.u32 %r1, -1, 1":                              0xffffffff,
		"and.b32 %r1, 12, 10":                             8,
		"or.b32 %r1, 12, 10":                              14,
		"xor.b32 %r1, 12, 10":                             6,
		"not.b32 %r1, 1":                                  0xfffffffe,
		"and.b16 %rs1, 0x1ffffU, 0x10001U":                1,
		"or.b64 %rd1, 0x100000000, 1":                     0x100000001,
		"shl.b32 %r1, 0x80000001U, 1":                     2,
		"shl.b32 %r1, 1, 32":                              0,
		"shl.b64 %rd1, 1, 32":                             1 << 32,
		"shr.u32 %r1, 0x80000000U, 31":                    1,
		"shr.s32 %r1, 0x80000000U, 31":                    0xffffffff,
		"shr.u32 %r1, 0x80000000U, 32":                    0,
		"shr.u16 %rs1, 0x18000U, 15":                      1,
		"bfe.u32 %r1, 0xf0U, 4, 3":                        7,
		"bfe.s32 %r1, 0xf0U, 4, 3":                        0xffffffff,
		"bfe.u32 %r1, 0xf0U, 4, 40":                       15,
		"prmt.b32 %r1, 0x44332211U, 0x88776655U, 0x7410U": 0x88552211,
		"lop3.b32 %r1, 0xf0U, 0xccU, 0xaaU, 0xea":         0xea, // the table of (a & b) | c, by its definition
		"lop3.b32 %r1, 0xf0U, 0xccU, 0xaaU, 0x16":         0x16,
		"lop3.b32 %r1, 0xf0U, 0xccU, 0xaaU, 0x01":         0xffffff01,
		"prmt.b32 %r1, 0x44332291U, 0, 0x9981U":           0x0000ff22,
		// predicates
		"setp.eq.b32 %p1, 1, 1":                                                1,
		"setp.ne.b64 %p1, 1, 1":                                                0,
		"setp.lt.s32 %p1, -1, 1":                                               1,
		"setp.lt.u32 %p1, -1, 1":                                               0,
		"setp.le.s32 %p1, 1, 1":                                                1,
		"setp.gt.s64 %p1, -1, 1":                                               0,
		"setp.gt.u64 %p1, -1, 1":                                               1,
		"setp.ge.s32 %p1, 0, 1":                                                0,
		"setp.lt.s16 %p1, 0x8000U, 0":                                          1,
		"setp.eq.f32 %p1, 0f7FC00000, 0f7FC00000":                              0,
		"setp.ne.f32 %p1, 0f7FC00000, 0f00000000":                              0,
		"setp.neu.f32 %p1, 0f7FC00000, 0f00000000":                             1,
		"setp.nan.f32 %p1, 0f7FC00000, 0f00000000":                             1,
		"setp.leu.f32 %p1, 0f7FC00000, 0f00000000":                             1,
		"setp.leu.f32 %p1, 0f3F800000, 0f00000000":                             0,
		"setp.eq.f16 %p1, 0x8000U, 0x10000U":                                   1,
		"setp.eq.f16 %p1, 0x7E00U, 0x7E00U":                                    0,
		"setp.lt.f32 %p1, 0fBF800000, 0f00000000":                              1,
		"setp.le.f32 %p1, 0f3F800000, 0f00000000":                              0,
		"setp.gt.f32 %p1, 0f3F800000, 0f7FC00000":                              0,
		"setp.ge.f32 %p1, 0f00000000, 0f80000000":                              1,
		"setp.eq.b32 %p2, 1, 1; and.pred %p1, %p2, %p2":                        1,
		"setp.eq.b32 %p2, 1, 1; setp.eq.b32 %p3, 1, 2; and.pred %p1, %p2, %p3": 0,
		"setp.eq.b32 %p2, 1, 1; setp.eq.b32 %p3, 1, 2; or.pred %p1, %p2, %p3":  1,
		"setp.eq.b32 %p2, 1, 1; xor.pred %p1, %p2, %p2":                        0,
		"setp.eq.b32 %p2, 1, 1; not.pred %p1, %p2":                             0,
		"setp.eq.b32 %p2, 1, 1; selp.b32 %r1, 5, 6, %p2":                       5,
		"setp.eq.b32 %p2, 1, 2; selp.f32 %r1, 5, 6, %p2":                       6,
		"setp.eq.b32 %p2, 1, 2; selp.b16 %rs1, 5, 0x10006U, %p2":               6,
		// float32
		"add.f32 %r1, 0f3F800000, 0f33000000":                      0x3f800000, // 1 + 2⁻²⁵
		"sub.f32 %r1, 0f3F800000, 0f40000000":                      0xbf800000,
		"mul.f32 %r1, 0f40000000, 0f40400000":                      0x40c00000,
		"mul.rn.f32 %r1, 0f3F800001, 0f3F800001":                   0x3f800002,         // (1 + 2⁻²³)² is rounded
		"add.f64 %rd1, 0d3FF0000000000000, 0d3CA0000000000000":     0x3ff0000000000000, // 1 + 2⁻⁵³
		"cvt.f64.f32 %rd1, 0fC0490FDB":                             0xc00921fb60000000,
		"fma.rn.bf16x2 %r1, 0x430F4300U, 0x3F803F80U, 0xC308C300U": 0x40e00000, // 143 − 136 and 128 − 128
		"fma.rn.bf16x2 %r1, 0x3F813F81U, 0x3F813F80U, 0x00000000U": 0x3f823f81, // (1 + 2⁻⁷)² is rounded
		"fma.rn.f16x2 %r1, 0x3C014000U, 0x3C014200U, 0xBC024600U":  0x00104a00, // (1 + 2⁻¹⁰)² − 1 − 2⁻⁹, and 2 · 3 + 6
		"mul.rn.f16x2 %r1, 0x3C010001U, 0x3C013800U":               0x3c020000, // rounded; half of the least goes to the even one
		"neg.f16x2 %r1, 0x3C018000U":                               0xbc010000,
		"fma.rn.f32 %r1, 0f3F800001, 0f3F800001, 0fBF800002":       0x28800000, // keeps the 2⁻⁴⁶ of the product
		"abs.ftz.f32 %r1, 0fBF800000":                              0x3f800000,
		"abs.ftz.f32 %r1, 0f80000001":                              0,
		"fma.rn.ftz.f32 %r1, 0f00000001, 0f3F800000, 0f00000001":   0,
		"min.f32 %r1, 0f7FC00000, 0f3F800000":                      0x3f800000,
		"max.f32 %r1, 0f3F800000, 0f7FC00000":                      0x3f800000,
		"max.f32 %r1, 0fFF800000, 0fBF800000":                      0xbf800000,
		"neg.f32 %r1, 0f3F800000":                                  0xbf800000,
		"abs.f32 %r1, 0fBF800000":                                  0x3f800000,
		"div.rn.f32 %r1, 0f3F800000, 0f40400000":                   0x3eaaaaab,
		"div.full.f32 %r1, 0f40C00000, 0f40000000":                 0x40400000,
		"ex2.approx.f32 %r1, 0f40400000":                           0x41000000,
		"ex2.approx.ftz.f32 %r1, 0fFF800000":                       0,
		"ex2.approx.f32 %r1, 0fC3010000":                           0x00100000, // 2⁻¹²⁹ is kept
		"ex2.approx.ftz.f32 %r1, 0fC3010000":                       0,          // and here it is not
		"lg2.approx.f32 %r1, 0f41000000":                           0x40400000,
		"sqrt.approx.ftz.f32 %r1, 0f41100000":                      0x40400000,
		// conversions
		"cvt.s64.s32 %rd1, -1":                          math.MaxUint64,
		"cvt.u64.u32 %rd1, -1":                          0xffffffff,
		"cvt.u32.u64 %r1, 0x1234567890":                 0x34567890,
		"cvt.u16.u32 %rs1, 0x12345U":                    0x2345,
		"cvt.u32.u16 %r1, 0x12345U":                     0x2345,
		"cvt.s32.s16 %r1, 0x8000U":                      0xffff8000,
		"cvt.s8.s32 %rs1, 0x180U":                       0xff80,
		"cvt.u32.u8 %r1, 0x180U":                        0x80,
		"cvt.rn.f16.f32 %rs1, 0f3F801000":               0x3c00, // 1 + 2⁻¹¹, half way
		"cvt.rn.f16.f32 %rs1, 0f3F803000":               0x3c02, // 1 + 3·2⁻¹¹
		"cvt.rn.f16.f32 %rs1, 0fC77FEFFF":               0xfbff, // just below 65520
		"cvt.rn.f16.f32 %rs1, 0f477FF000":               0x7c00,
		"cvt.rn.f16.f32 %rs1, 0f80000000":               0x8000,
		"cvt.rn.f16.f32 %rs1, 0f387FF000":               0x0400, // the least normal one, from below
		"cvt.rn.f16.f32 %rs1, 0f33000000":               0,      // half of the least one
		"cvt.rn.f16.f32 %rs1, 0f7FC00000":               0x7fff,
		"cvt.rzi.s32.f32 %r1, 0fBFE00000":               0xffffffff,
		"cvt.rzi.s32.f32 %r1, 0f4F000000":               0x7fffffff,
		"cvt.rzi.s32.f32 %r1, 0f7FC00000":               0,
		"cvt.rn.f32.s32 %r1, -1":                        0xbf800000,
		"cvt.rn.f32.u32 %r1, -1":                        0x4f800000,
		"cvt.rn.f32.s16 %r1, 0xffffU":                   0xbf800000,
		"cvt.rn.f32.u16 %r1, 0x10003U":                  0x40400000,
		"cvt.rn.f32.s8 %r1, 0xffU":                      0xbf800000,
		"cvt.f32.f16 %r1, 0x3c00U":                      0x3f800000,
		"cvt.f32.f16 %r1, 0x8001U":                      0xb3800000, // −2⁻²⁴
		"cvt.f32.f16 %r1, 0xfc00U":                      0xff800000,
		"cvt.f32.bf16 %r1, 0x3f80U":                     0x3f800000,
		"cvt.rn.bf16.f32 %rs1, 0f3F808000":              0x3f80, // halves go to the even one
		"cvt.rn.bf16.f32 %rs1, 0f3F818000":              0x3f82,
		"cvt.rn.bf16.f32 %rs1, 0f7FFFFFFF":              0x7fff,
		"cvt.rn.bf16x2.f32 %r1, 0f3F800000, 0f40000000": 0x3f804000,
		"cvt.rn.f16x2.f32 %r1, 0f3F801000, 0f33000000":  0x3c000000, // 2⁻²⁵ is half of the least
		// moves
		"mov.b32 %r1, {0x11111U, 2}":                     0x21111,
		"mov.b64 %rd1, {1, 2}":                           0x200000001,
		"mov.b32 {%rs2, %rs1}, 0x20001U":                 2,
		"mov.u32 %r1, %tid.x":                            3,
		"ld.param.s32 %rd1, [number]":                    0,
		"ld.global.b8 %rs1, [%rd30+5]":                   5,
		"ld.global.b16 %rs1, [ %rd30 + 4 ]":              0x0504,
		"ld.global.b32 { %r1 }, [ %rd30 + 4 ]":           0x07060504,
		"ld.global.v2.b32 {%r2, %r1}, [%rd30+8]":         0x0f0e0d0c,
		"ld.global.v4.b32 {%r2, %r3, %r4, %r1}, [%rd30]": 0x0f0e0d0c,
		"ld.global.b64 %rd1, [%rd30]":                    0x0706050403020100,
		"st.shared.v2.b32 [global_smem+8], {7, 9}; ld.shared.b32 %r1, [global_smem+12]": 9,
		"st.shared.b16 [global_smem], 0x12345U; ld.shared.b16 %rs1, [global_smem]":      0x2345,
		"ld.shared.b32 %r1, [global_smem]":                                              0xffffffff, // nobody wrote it
		"st.global.b32 [ %rd30 + 8 ], { 77 }; ld.global.b32 %r1, [%rd30+8]":             77,
	} {
		m := firstTarget.FindStringSubmatch(body)
		if m == nil {
			t.Fatalf("%s: which register is it?", body)
		}
		got := run(t, 32, body+";\n"+widenTarget[m[1]]+";")
		if strings.Contains(body, "number") {
			continue // see TestParameters
		}
		if got[3] != want {
			t.Errorf("%s: %#x, want %#x", body, got[3], want)
		}
	}
}

// Inline assembly has registers of its own, which may have names that are taken outside.
func TestScopes(t *testing.T) {
	for _, body := range []string{
		"{ .reg .b16 %rs2; mov.b32 {%rs2, %rs1}, 0x50006U; }",
		"{\n.reg .s8 s<4>;\nmov.b32 {s0, s1, s2, s3}, 0x050006fdU;\ncvt.u16.u8 %rs1, s3;\n}",
	} {
		text := strings.Replace(program(32, "mov.u16 %rs2, 9;\nBODY\ncvt.u64.u16 %rd2, %rs1;\ncvt.u64.u16 %rd3, %rs2;\nshl.b64 %rd3, %rd3, 32;\nor.b64 %rd1, %rd2, %rd3;"), "BODY", body, 1)
		if got, err := try(text, 32, 0); err != nil || got[0] != 5|9<<32 {
			t.Errorf("%s: %#x, %v", body, got, err)
		}
	}
}

func TestParameters(t *testing.T) {
	for body, want := range map[string]uint64{
		"ld.param.s32 %rd1, [number];":                       math.MaxUint64 - 4,
		"ld.param.b32 %r1, [number]; cvt.u64.u32 %rd1, %r1;": 0xfffffffb,
	} {
		got, err := try(program(32, body), 32, 0xdeadbeef_fffffffb)
		if err != nil || got[0] != want {
			t.Errorf("%s: %#x, %v, want %#x", body, got, err, want)
		}
	}
}

// An approximate result is off, but by no more than 2 units in the last place; one that float32 holds is exact.
func TestRough(t *testing.T) {
	moved := map[int]int{}
	for i := range 10000 {
		x := 1 + float64(i)/9999
		y := math.Exp2(x)
		off := int(math.Float32bits(rough(y))) - int(math.Float32bits(float32(y)))
		if off < -2 || off > 2 {
			t.Fatalf("2^%v is off by %d units", x, off)
		}
		moved[off]++
	}
	for off := -2; off <= 2; off++ {
		if moved[off] < 1000 {
			t.Errorf("%d of 10,000 are off by %d", moved[off], off)
		}
	}
	for _, x := range []float64{0, 1, -3, math.Inf(1), math.Inf(-1)} {
		if got := rough(x); float64(got) != x {
			t.Errorf("%v becomes %v", x, got)
		}
	}
	if got := rough(math.NaN()); got == got {
		t.Errorf("NaN becomes %v", got)
	}
}
