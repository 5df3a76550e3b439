package ptx

import (
	"strings"
	"testing"
)

// Threads that part meet again where their ways do: every thread adds up a loop of its
// own length, skips a part by turns, and all shuffle together afterwards.
func TestReconvergence(t *testing.T) {
	got := run(t, 32, `mov.b32 %r1, 0;
	mov.b32 %r2, 0;
$again:
	setp.ge.s32 %p1, %r2, %r30;
	@%p1 bra $done;
	add.s32 %r2, %r2, 1;
	and.b32 %r3, %r2, 1;
	setp.eq.b32 %p2, %r3, 0;
	@%p2 bra $even;
	add.s32 %r1, %r1, 1000;
	bra.uni $next;
$even:
	add.s32 %r1, %r1, 1;
$next:
	bra $again;
$done:
	shfl.sync.bfly.b32 %r4, %r1, 1, 31, -1;
	mov.b64 %rd1, {%r1, %r4};`)
	for i, v := range got {
		count := func(n int) uint64 { return uint64((n+1)/2*1000 + n/2) }
		if want := count(i) | count(i^1)<<32; v != want {
			t.Errorf("thread %d: %#x, want %#x", i, v, want)
		}
	}
}

// A thread that returns early leaves the others going.
func TestEarlyReturn(t *testing.T) {
	got := run(t, 32, "mov.b64 %rd1, 5; setp.lt.u32 %p1, %r30, 30; @!%p1 ret; setp.eq.b32 %p2, %r30, 3; @%p2 bra $skip; add.s64 %rd1, %rd1, 1;\n$skip:")
	for i, v := range got {
		want := uint64(6)
		switch {
		case i >= 30:
			want = 0xffffffffffffffff // nothing was written
		case i == 3:
			want = 5
		}
		if v != want {
			t.Errorf("thread %d: %d, want %d", i, v, want)
		}
	}
}

func TestExchange(t *testing.T) {
	for body, want := range map[string]func(i int) uint64{
		"shfl.sync.bfly.b32 %r1, %r30, 5, 31, -1;":                         func(i int) uint64 { return uint64(i ^ 5) },
		"sub.s32 %r2, 31, %r30; shfl.sync.idx.b32 %r1, %r30, %r2, 31, -1;": func(i int) uint64 { return uint64(31 - i) },
		"sub.s32 %r2, %r30, 7; redux.sync.max.s32 %r1, %r2, -1;":           func(int) uint64 { return 24 },
		"sub.s32 %r2, %r30, 7; redux.sync.max.u32 %r1, %r2, -1;":           func(int) uint64 { return 0xffffffff },
		"sub.s32 %r2, %r30, 7; redux.sync.min.s32 %r1, %r2, 0xffffffffU;":  func(int) uint64 { return 0xfffffff9 },
	} {
		for i, v := range run(t, 32, body+" bar.warp.sync -1; cvt.u64.u32 %rd1, %r1;") {
			if v != want(i) {
				t.Errorf("%s thread %d: %#x, want %#x", body, i, v, want(i))
			}
		}
	}
}

const (
	// Threads of one warp write 4 bytes each, and threads of the next one read them.
	writeFirst = "shl.b32 %r1, %r30, 2; and.b32 %r1, %r1, 127; setp.lt.u32 %p1, %r30, 32; @%p1 st.shared.b32 [%r1], %r30; "
	readSecond = "mov.b32 %r2, 0; @!%p1 ld.shared.b32 %r2, [%r1]; cvt.u64.u32 %rd1, %r2;"
)

func TestSharedMemory(t *testing.T) {
	for i, v := range run(t, 64, writeFirst+"bar.sync 0; "+readSecond) {
		if want := uint64(max(0, i-32)); v != want {
			t.Errorf("thread %d reads %d, want %d", i, v, want)
		}
	}
}

func TestFaults(t *testing.T) {
	const second = "setp.ge.u32 %p1, %r30, 32; @!%p1 ld.shared.b32 %r2, [0]; @%p1 st.shared.b32 [0], 5; mov.b64 %rd1, 0;"
	for want, body := range map[string]string{
		"warp 1 reads shared memory at 0 that warp 0 writes":       writeFirst + readSecond,
		"warp 1 writes shared memory at 0 that another warp reads": second,
		"warp 1 writes shared memory at 0 that warp 0 writes":      "shr.u32 %r1, %r30, 5; st.shared.b32 [0], %r1;",
		"16 of 32 threads of warp 0 reach":                         "and.b32 %r1, %r30, 1; setp.eq.b32 %p1, %r1, 0; @%p1 bra $skip; bar.sync 0;\n$skip:",
		"a barrier that 1 of 2 warps reach":                        "setp.lt.u32 %p1, %r30, 32; @%p1 bra $skip; bar.sync 0;\n$skip:",
		"a shuffle by 31 of 32 threads":                            "setp.eq.b32 %p1, %r30, 0; @!%p1 shfl.sync.bfly.b32 %r1, %r30, 1, 31, -1;",
		"a shuffle of the threads 0xffff of a warp":                "shfl.sync.bfly.b32 %r1, %r30, 1, 31, 0xffffU;",
		"a predicate that was never set":                           "@%p1 mov.b32 %r1, 0;",
		"a predicate that was never set ":                          "selp.b32 %r1, 1, 0, %p1;",
		"4 bytes at 0x7f0000100600, outside":                       "ld.global.b32 %r1, [%rd30+1024];",
		"4 bytes at 0x7f00001001fc, outside":                       "ld.global.b32 %r1, [%rd30+-4];",
		"4 bytes at 0x7f0000100602, which is no multiple":          "ld.global.b32 %r1, [%rd30+1026];",
		"4 bytes at 0x7ff7dead7fc1dead":                            "st.global.b32 [ %rd29 + 0 ], { 1 };",
		"4 bytes at 1024 of 1024 bytes of shared memory":           "ld.shared.b32 %r1, [1024];",
		"8 bytes at 4 of shared memory, which is no multiple":      "ld.shared.v2.b32 {%r1, %r2}, [4];",
		"a division by zero":                                       "div.s32 %r1, 1, 0;",
		"a signed field of 33 bits":                                "bfe.s32 %r1, 1, 0, 33;",
	} {
		faults(t, 64, body+"\nmov.b64 %rd1, 0;", strings.TrimSpace(want))
	}
}
