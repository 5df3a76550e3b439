//go:build linux && (amd64 || arm64) && !nocuda

package device

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/ebitengine/purego"
)

// standin is the recording library of testdata/standin.c, made once.
type standin struct {
	path, old string // old lacks a function
	reset     func()
	fail      func(name string, works, code int32)
	machine   func(version, major, devices int32)
	record    func() string
}

var build = sync.OnceValues(func() (*standin, error) {
	compiler, err := exec.LookPath("cc")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "standin")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // what is open stays
	s := &standin{path: filepath.Join(dir, "standin.so"), old: filepath.Join(dir, "old.so")}
	for path, flag := range map[string]string{s.path: "-DNEW", s.old: "-DOLD"} {
		if out, err := exec.Command(compiler, "-shared", "-fPIC", flag, "-o", path, "testdata/standin.c").CombinedOutput(); err != nil {
			return nil, errors.New(string(out))
		}
		if _, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL); err != nil {
			return nil, err
		}
	}
	handle, err := purego.Dlopen(s.path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	purego.RegisterLibFunc(&s.reset, handle, "standin_reset")
	purego.RegisterLibFunc(&s.fail, handle, "standin_fail")
	purego.RegisterLibFunc(&s.machine, handle, "standin_machine")
	purego.RegisterLibFunc(&s.record, handle, "standin_record")
	return s, err
})

func newStandin(t *testing.T) *standin {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("no C compiler (cc) to make a stand-in for libcuda with")
	}
	s, err := build()
	if err != nil {
		t.Fatal(err)
	}
	s.reset()
	return s
}

// calls are the lines that were recorded since the last reset.
func (s *standin) calls() []string {
	lines := strings.Split(strings.TrimSpace(s.record()), "\n")
	s.reset()
	return lines
}

func (s *standin) open(t *testing.T) *driver {
	t.Helper()
	d, err := open(s.path, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.reset()
	return d
}

func TestDriverCalls(t *testing.T) {
	s := newStandin(t)
	d, err := open(s.path, 0)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want ...string) {
		t.Helper()
		if got := s.calls(); !reflect.DeepEqual(got, want) {
			t.Errorf("calls\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	expect("cuInit 0", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet 0", "cuDriverGetVersion", "cuDeviceGetName 7", "cuDevicePrimaryCtxRetain 7")
	info, err := d.Info()
	must(t, err)
	if want := (Info{Name: "Stand-in", Driver: 12040, Major: 9, Multiprocessors: 132, Memory: 80 << 30, Free: 3 << 30}); info != want {
		t.Errorf("%+v, want %+v", info, want)
	}
	if want := "Stand-in (compute 9.0, driver for CUDA 12.4)"; info.String() != want {
		t.Errorf("%q, want %q", info, want)
	}

	st, err := d.NewStream()
	must(t, err)
	m, err := d.Load(".version 7.0")
	must(t, err)
	plain := Signature{Name: "plain3", Params: 3, Threads: 128, Shared: 48 << 10}
	large := Signature{Name: "large0", Params: 0, Threads: 256, Shared: 48<<10 + 1}
	f, err := m.Function(plain)
	must(t, err)
	g, err := m.Function(large)
	must(t, err)
	expect("cuMemGetInfo", "cuStreamCreate 1", "cuModuleLoadDataEx .version 7.0", "cuModuleGetFunction 1002 plain3",
		"cuModuleGetFunction 1002 large0", "cuFuncSetAttribute 1004 8 = 49153")

	p, err := d.Alloc(1000)
	must(t, err)
	src, dst := []byte("what is written is copied"), make([]byte, 25)
	must(t, st.Upload(p, src))
	must(t, st.Launch(f, Grid{5, 6, 7}, 1<<40+3, F32(1), I32(-1)))
	must(t, st.Launch(g, Grid{1, 1, 1}))
	must(t, st.Copy(p+100, p, 25))
	must(t, st.Copy(p, p, 0)) // nothing
	must(t, st.Download(dst, p+100))
	if string(dst) != string(src) {
		t.Errorf("read %q", dst)
	}
	must(t, d.Free(p))
	expect("cuMemAlloc 1000", "cuMemcpyHtoDAsync 25 on 1001",
		"cuLaunchKernel 1003 grid 5 6 7 block 128 1 1 shared 49152 on 1001: 10000000003 3f800000 ffffffff",
		"cuLaunchKernel 1004 grid 1 1 1 block 256 1 1 shared 49153 on 1001:",
		"cuMemcpyDtoDAsync 25 on 1001", "cuMemcpyDtoHAsync 25 on 1001", "cuStreamSynchronize 1001", "cuMemFree")

	captured, err := st.Capture(func() error { return st.Launch(f, Grid{1, 1, 1}, 1, 2, 3) })
	must(t, err)
	must(t, st.Run(captured))
	must(t, st.Wait())
	must(t, captured.Close())
	must(t, st.Close())
	must(t, m.Unload())
	must(t, d.Close())
	must(t, d.Close()) // again: nothing
	expect("cuStreamBeginCapture 1001 2", "cuLaunchKernel captured 1003 grid 1 1 1 block 128 1 1 shared 49152 on 1001: 1 2 3",
		"cuStreamEndCapture 1001", "cuGraphInstantiateWithFlags 1001 0", "cuGraphDestroy 1001", "cuGraphLaunch 1002 on 1001",
		"cuStreamSynchronize 1001", "cuGraphExecDestroy 1002", "cuStreamDestroy 1001", "cuModuleUnload 1002", "cuDevicePrimaryCtxRelease 7")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever keeps a card from being used is told in one line that says what to do.
func TestUnavailable(t *testing.T) {
	_, err := open("libno-such-driver.so.1", 0)
	refuses(t, "no library", err, ErrUnavailable, "there is no NVIDIA driver")
	s := newStandin(t)
	_, err = open(s.old, 0)
	refuses(t, "a library without a function", err, ErrUnavailable, "too old, CUDA 11.4 or later is needed", "cuGraphInstantiateWithFlags")
	for _, test := range []struct {
		name, call     string
		code           int32
		version, major int32
		devices        int32
		want           string
	}{
		{"a driver without a card", "cuInit", 100, 12040, 9, 1, "cuInit: CUDA_ERROR_NO_DEVICE (100)"},
		{"a broken driver", "cuInit", 999, 12040, 9, 1, "cuInit: CUDA_ERROR_UNKNOWN (999)"},
		{"a code without a name", "cuDeviceGet", 12345, 12040, 9, 1, "cuDeviceGet: unknown (12345)"},
		{"an old driver", "", 0, 11030, 9, 1, "for CUDA 11.3, 11.4 or later is needed"},
		{"no card", "", 0, 12040, 9, 0, "sees no card"},
		{"an old card", "", 0, 12040, 7, 1, "Stand-in (compute 7.0, driver for CUDA 12.4) is too old, compute 8.0"},
		{"a card in use", "cuDevicePrimaryCtxRetain", 2, 12040, 9, 1, "cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY (2)"},
	} {
		s.reset()
		s.fail(test.call, 0, test.code)
		s.machine(test.version, test.major, test.devices)
		_, err := open(s.path, 0)
		refuses(t, test.name, err, ErrUnavailable, test.want)
	}
}

func refuses(t *testing.T, name string, err, kind error, words ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: %v, want it to be %q", name, err, kind)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v, want it to say %q", name, err, w)
		}
	}
}

func TestFailures(t *testing.T) {
	s := newStandin(t)
	d := s.open(t)
	st, err := d.NewStream()
	must(t, err)

	s.fail("cuMemAlloc", 1, 2)
	_, err = d.Alloc(10)
	must(t, err)
	_, err = d.Alloc(1 << 40)
	refuses(t, "out of memory", err, ErrMemory, "1099511627776 bytes", "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2)")
	if errors.Is(err, ErrLost) || d.dead != nil {
		t.Error("a device without memory is not lost")
	}
	if _, err := d.Alloc(0); err == nil {
		t.Error("nothing was allocated")
	}

	s.fail("cuModuleLoadDataEx", 0, 218)
	if _, err = d.Load("nonsense"); err == nil || !strings.Contains(err.Error(), "compile kernels for Stand-in: cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX (218): ptxas: line 3 is wrong") {
		t.Errorf("text that does not compile: %v", err)
	}

	s.reset()
	m, err := d.Load("")
	must(t, err)
	f, err := m.Function(Signature{Name: "f1", Params: 1, Threads: 32})
	must(t, err)
	s.calls()
	for name, launch := range map[string]func() error{
		"0 arguments, 1 are":       func() error { return st.Launch(f, Grid{1, 1, 1}) },
		"grid of 1 × 0 × 1 blocks": func() error { return st.Launch(f, Grid{1, 0, 1}, 1) },
		"1 × 1 × 65536 blocks":     func() error { return st.Launch(f, Grid{1, 1, 1 << 16}, 1) },
		"of another device":        func() error { return st.Launch(foreign{}, Grid{1, 1, 1}, 1) },
		"graph of another device":  func() error { return st.Run(foreign{}) },
		"cannot be captured": func() error {
			_, err := st.Capture(func() error { return st.Upload(1, []byte{1}) })
			return err
		},
		"captured in a graph": func() error {
			_, err := st.Capture(func() error { return st.Download([]byte{1}, 1) })
			return err
		},
		"to or from the device cannot": func() error {
			_, err := st.Capture(func() error { return st.Copy(1, 2, 3) })
			return err
		},
		"captured in a graph ": func() error {
			_, err := st.Capture(func() error { return st.Run(&graph{}) })
			return err
		},
		"inside a capture": func() error {
			_, err := st.Capture(func() error { _, err := st.Capture(nil); return err })
			return err
		},
	} {
		if err := launch(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(name)) {
			t.Errorf("%v, want an error that says %q", err, name)
		}
	}
	for _, line := range s.calls() { // a failed capture is ended, its graph given back and never made ready
		if !strings.HasPrefix(line, "cuStreamBeginCapture") && !strings.HasPrefix(line, "cuStreamEndCapture") && !strings.HasPrefix(line, "cuGraphDestroy") {
			t.Errorf("%q was called", line)
		}
	}

	s.fail("cuLaunchKernel", 0, 701)
	if err := st.Launch(f, Grid{1, 1, 1}, 1); err == nil || err.Error() != "launch of f1: cuLaunchKernel: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (701)" {
		t.Errorf("a launch that fails: %v", err)
	}
	if d.dead != nil {
		t.Error("a launch that was refused does not lose the device")
	}
}

type foreign struct{}

func (foreign) Signature() Signature { return Signature{Name: "foreign", Params: 1} }
func (foreign) Close() error         { return nil }

// A fault of a kernel is told by the next call that waits; no call is made afterwards.
func TestLostDevice(t *testing.T) {
	s := newStandin(t)
	d := s.open(t)
	st, err := d.NewStream()
	must(t, err)
	s.fail("cuStreamSynchronize", 0, 700)
	refuses(t, "a fault", st.Wait(), ErrLost, "cuStreamSynchronize: CUDA_ERROR_ILLEGAL_ADDRESS (700)")
	s.calls()
	for name, after := range map[string]func() error{
		"wait":   st.Wait,
		"alloc":  func() error { _, err := d.Alloc(1); return err },
		"upload": func() error { return st.Upload(1, []byte{1}) },
		"stream": func() error { _, err := d.NewStream(); return err },
		"close":  st.Close,
	} {
		refuses(t, name, after(), ErrLost, "lost before", "CUDA_ERROR_ILLEGAL_ADDRESS (700)")
	}
	if got := s.calls(); len(got) != 1 || got[0] != "" {
		t.Errorf("%q was called on a lost device", got)
	}
}

// A lost device is opened anew where the driver gives a context, and otherwise stays lost.
func TestReopen(t *testing.T) {
	s := newStandin(t)
	d := s.open(t)
	s.fail("cuMemAlloc", 0, 700)
	_, err := d.Alloc(1)
	refuses(t, "a fault", err, ErrLost, "cuMemAlloc")
	for _, call := range []string{"cuDevicePrimaryCtxReset", "cuDevicePrimaryCtxRetain"} {
		s.fail(call, 0, 999)
		if err := d.Reopen(); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_UNKNOWN (999)") {
			t.Errorf("%s fails: %v", call, err)
		}
		_, err = d.Alloc(1)
		refuses(t, "afterwards", err, ErrLost, "lost before")
	}
	s.reset()
	must(t, d.Reopen())
	if got, want := s.calls(), []string{"cuDevicePrimaryCtxReset 7", "cuDevicePrimaryCtxRetain 7"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	p, err := d.Alloc(8)
	must(t, err)
	must(t, d.Free(p))
	s.fail("cuMemAlloc", 0, 700)
	d.Alloc(1)
	s.reset()
	must(t, d.Reopen()) // the context is released first
	if got, want := s.calls(), []string{"cuDevicePrimaryCtxRelease 7", "cuDevicePrimaryCtxReset 7", "cuDevicePrimaryCtxRetain 7"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	must(t, d.Close())
}

// BenchmarkLaunch is what a launch costs beside the driver's own time.
func BenchmarkLaunch(b *testing.B) {
	s, err := build()
	if err != nil {
		b.Skip(err)
	}
	d, err := open(s.path, 0)
	if err != nil {
		b.Fatal(err)
	}
	st, _ := d.NewStream()
	f := &function{signature: Signature{Name: "f", Params: 4, Threads: 32}}
	for b.Loop() {
		s := st.(*stream)
		if err := s.Launch(f, Grid{1, 1, 1}, 1, 2, 3, 4); err != nil {
			b.Fatal(err)
		}
	}
}
