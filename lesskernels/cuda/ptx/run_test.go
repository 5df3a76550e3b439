package ptx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"lessrag/lesskernels/cuda/device"
)

// program is a kernel of one block, whose threads leave %rd1 for the test to see. in is
// the address of 1,024 bytes of memory, of which byte i is i mod 251.
func program(threads int, body string) string {
	return fmt.Sprintf(`.version 7.0
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 global_smem[];
.visible .entry test(
	.param .u64 .ptr .global .align 1 out,
	.param .u64 in,
	.param .u32 number
)
.reqntid %d
{
	.reg .pred 	%%p<9>;
	.reg .b16 	%%rs<9>;
	.reg .b32 	%%r<40>;
	.reg .b64 	%%rd<40>;
	mov.u32 	%%r30, %%tid.x; // the thread
	ld.param.b64 	%%rd30, [in];
%s
	ld.param.b64 	%%rd31, [out];
	mad.wide.u32 	%%rd32, %%r30, 8, %%rd31;
	st.global.b64 	[ %%rd32 + 0 ], { %%rd1 };
	ret;
}
`, threads, strings.ReplaceAll(body, "; ", ";\n"))
}

const sharedBytes = 1024

// try runs a program; number is its third argument.
func try(text string, threads int, number uint64) ([]uint64, error) {
	d := New(1 << 20)
	m, err := d.Load(text)
	if err != nil {
		return nil, err
	}
	f, err := m.Function(device.Signature{Name: "test", Params: 3, Threads: threads, Shared: sharedBytes})
	if err != nil {
		return nil, err
	}
	s, err := d.NewStream()
	if err != nil {
		return nil, err
	}
	out, err := d.Alloc(int64(8 * threads))
	if err != nil {
		return nil, err
	}
	in, err := d.Alloc(1024)
	if err != nil {
		return nil, err
	}
	bytes := make([]byte, 1024)
	for i := range bytes {
		bytes[i] = byte(i % 251)
	}
	if err := s.Upload(in, bytes); err != nil {
		return nil, err
	}
	if err := s.Launch(f, device.Grid{X: 1, Y: 1, Z: 1}, uint64(out), uint64(in), number); err != nil {
		return nil, err
	}
	bytes = make([]byte, 8*threads)
	if err := s.Download(bytes, out); err != nil {
		return nil, err
	}
	result := make([]uint64, threads)
	for i := range result {
		result[i] = binary.LittleEndian.Uint64(bytes[8*i:])
	}
	return result, errors.Join(d.Free(in), d.Free(out), d.Close())
}

func run(t *testing.T, threads int, body string) []uint64 {
	t.Helper()
	result, err := try(program(threads, body), threads, 0)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return result
}

// faults runs a program that must not come to its end.
func faults(t *testing.T, threads int, body, want string) {
	t.Helper()
	_, err := try(program(threads, body), threads, 0)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want an error that says %q", body, err, want)
	}
}
