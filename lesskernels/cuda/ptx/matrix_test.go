package ptx

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// A matrix product of fragments that are laid out as the ISA draws them. Every element has a
// value of its own, so that none can be mistaken for another.
func TestMatrixProduct(t *testing.T) {
	for of, to := range map[string]func(float32) uint64{"bf16": toBF16, "f16": toF16} {
		t.Run(of, func(t *testing.T) { checkMatrixProduct(t, of, to, 1) })
	}
	t.Run("f16 that are not normal", func(t *testing.T) { checkMatrixProduct(t, "f16", toF16, 0x1p-24) })
}

// checkMatrixProduct takes a in units of that size.
func checkMatrixProduct(t *testing.T, of string, to func(float32) uint64, unit float64) {
	a := func(r, k int) float64 { return float64((r*5+k*3)%16-7) * unit }
	b := func(k, c int) float64 { return float64((k*7+c*11)%16-8) / 4 }
	c := func(r, c int) float64 { return float64(r*8+c) / 8 * unit }
	pair := func(x, y float64) uint64 { return to(float32(x)) | to(float32(y))<<16 }
	var body strings.Builder
	set := func(register int, f func(group, in int) uint64) { // of each lane
		for lane := range 32 {
			fmt.Fprintf(&body, "setp.eq.b32 %%p1, %%r30, %d; @%%p1 mov.b32 %%r%d, %#xU; ", lane, register, f(lane>>2, lane%4))
		}
	}
	for i := range 4 { // element pairs of a: rows g and g+8, then columns 8 further
		set(1+i, func(g, in int) uint64 {
			r, k := g+8*(i&1), in*2+8*(i>>1)
			return pair(a(r, k), a(r, k+1))
		})
	}
	for i := range 2 {
		set(5+i, func(g, in int) uint64 { k := in*2 + 8*i; return pair(b(k, g), b(k+1, g)) })
	}
	for i := range 4 {
		set(7+i, func(g, in int) uint64 { return bitsOf(float32(c(g+8*(i>>1), in*2+i&1))) })
	}
	body.WriteString("mma.sync.aligned.m16n8k16.row.col.f32." + of + "." + of + ".f32 { %r11, %r12, %r13, %r14 }, { %r1, %r2, %r3, %r4 }, { %r5, %r6 }, { %r7, %r8, %r9, %r10 }; ")
	for i := range 4 {
		got := run(t, 32, body.String()+fmt.Sprintf("cvt.u64.u32 %%rd1, %%r%d;", 11+i))
		for lane, bits := range got {
			r, col := lane>>2+8*(i>>1), lane%4*2+i&1
			want := c(r, col)
			for k := range 16 {
				want += a(r, k) * b(k, col)
			}
			if x := float64(f32(bits)); !(math.Abs(x-want) <= 1e-4*unit) {
				t.Errorf("row %d, column %d: %v, want %v", r, col, x, want)
			}
		}
	}
	faults(t, 32, "setp.eq.b32 %p1, %r30, 0; @%p1 mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r1, %r2, %r3, %r4}, {%r1, %r2, %r3, %r4}, {%r1, %r2}, {%r1, %r2, %r3, %r4}; mov.b64 %rd1, 0;",
		"a matrix product by 1 of 32 threads")
}

// ldmatrix spreads rows of 8 numbers over the lanes, or columns.
func TestLoadMatrix(t *testing.T) {
	// Number i of shared memory is i: lane i writes numbers 8i…8i+7, which are row i mod 8 of matrix i/8.
	fill := "shl.b32 %r1, %r30, 3; shl.b32 %r2, %r30, 4; "
	for pair := range 4 {
		fill += fmt.Sprintf("add.s32 %%r3, %%r1, %d; add.s32 %%r4, %%r1, %d; shl.b32 %%r4, %%r4, 16; or.b32 %%r%d, %%r3, %%r4; ", 2*pair, 2*pair+1, 10+pair)
	}
	fill += "st.shared.v4.b32 [%r2], {%r10, %r11, %r12, %r13}; "
	for _, transposed := range []bool{false, true} {
		name := "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
		if transposed {
			name = "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
		}
		for j := range 4 {
			for lane, v := range run(t, 32, fill+name+fmt.Sprintf(" {%%r20, %%r21, %%r22, %%r23}, [%%r2+0]; cvt.u64.u32 %%rd1, %%r%d;", 20+j)) {
				r, c := lane/4, lane%4*2
				first, second := 64*j+8*r+c, 64*j+8*r+c+1
				if transposed {
					first, second = 64*j+8*c+r, 64*j+8*(c+1)+r
				}
				if want := uint64(first) | uint64(second)<<16; v != want {
					t.Errorf("transposed %v, matrix %d, lane %d: %#x, want %#x", transposed, j, lane, v, want)
				}
			}
		}
	}
	faults(t, 32, "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [8]; mov.b64 %rd1, 0;", "16 bytes at 8 of shared memory, which is no multiple")
}

const startCopy = "shl.b32 %r1, %r30, 2; cvt.u64.u32 %rd2, %r1; add.s64 %rd3, %rd30, %rd2; cp.async.ca.shared.global [ %r1 + 0 ], [ %rd3 + 0 ], 0x4, 4; "

func TestCopies(t *testing.T) {
	const commit, read = "cp.async.commit_group; ", "ld.shared.b32 %r2, [%r1]; cvt.u64.u32 %rd1, %r2;"
	for i, v := range run(t, 32, startCopy+commit+"cp.async.wait_group 0x0; "+read) {
		b := uint64(4 * i)
		if want := b | (b+1)<<8 | (b+2)<<16 | (b+3)<<24; v != want {
			t.Errorf("thread %d: %#x, want %#x", i, v, want)
		}
	}
	for body, want := range map[string]string{
		startCopy + commit + read:                                                 "is read while a copy to it is under way",
		startCopy + commit + "cp.async.wait_group 0x1; " + read:                   "is read while a copy to it is under way",
		startCopy + "cp.async.wait_group 0x0; " + read:                            "is read while a copy to it is under way", // never committed
		startCopy + "st.shared.b32 [%r1], 0; mov.b64 %rd1, 0;":                    "is written while a copy to it is under way",
		"cp.async.ca.shared.global [0], [%rd30], 0x8, 4; mov.b64 %rd1, 0;":        "a copy of 8 bytes of which 4 are read",
		"cp.async.cg.shared.global [0], [%rd30+1024], 0x10, 16; mov.b64 %rd1, 0;": "16 bytes at 0x7f0000100500, outside",
	} {
		faults(t, 32, body, want)
	}
	// A copy of nothing writes zeros, and does not touch its source.
	for _, v := range run(t, 32, "shl.b32 %r1, %r30, 2; st.shared.b32 [%r1], -1; cp.async.ca.shared.global [%r1], [%rd29], 0x4, 0; "+commit+"cp.async.wait_group 0x0; "+read) {
		if v != 0 {
			t.Errorf("%#x where nothing was copied", v)
		}
	}
	// The second group may still be under way where one is allowed to be.
	run(t, 32, startCopy+commit+"cp.async.ca.shared.global [%r1+512], [%rd3], 0x4, 4; "+commit+"cp.async.wait_group 0x1; "+read)
	// One warp may not start to overwrite what another one may still read.
	faults(t, 64, "setp.lt.u32 %p1, %r30, 32; mov.b32 %r1, 0; @%p1 ld.shared.b32 %r2, [%r1]; @!%p1 cp.async.ca.shared.global [%r1], [%rd30], 0x4, 4; mov.b64 %rd1, 0;",
		"a race: warp 1 writes shared memory at 0 that another warp reads")
}
