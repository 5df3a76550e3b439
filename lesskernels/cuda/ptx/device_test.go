package ptx

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"lessrag/lesskernels/cuda/device"
	"lessrag/lesskernels/cuda/device/devicetest"
)

func TestDevice(t *testing.T) { devicetest.Run(t, New(1<<20)) }

// The interpreter is for tests: no program of ours is linked with it.
func TestOnlyTestsImport(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "lessrag/cmd/api").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "lessrag/lesskernels/cuda/ptx") {
		t.Error("cmd/api is linked with the interpreter")
	}
}

func TestMemory(t *testing.T) {
	d := New(1000)
	a, err := d.Alloc(600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Alloc(500); !errors.Is(err, device.ErrMemory) {
		t.Errorf("500 of 400 bytes: %v", err)
	}
	if err := d.Close(); err == nil || !strings.Contains(err.Error(), "600 bytes of the device were not given back") {
		t.Errorf("closed with memory: %v", err)
	}
	s, _ := d.NewStream()
	for _, err := range []error{s.Upload(a, make([]byte, 601)), s.Download(make([]byte, 8), a+596), s.Upload(a-1, []byte{1}), s.Copy(a, a+596, 8), s.Copy(a+596, a, 8), d.Free(a + 1)} {
		if err == nil {
			t.Error("memory beyond what is allocated is taken")
		}
	}
	b := []byte{1, 2}
	if err := s.Download(b, a); err != nil || b[0] != poisonByte || b[1] != poisonByte {
		t.Errorf("fresh memory holds %v, %v", b, err)
	}
	if err := errors.Join(d.Free(a), d.Close()); err != nil {
		t.Error(err)
	}
	if err := errors.Join(d.Free(a)); err == nil {
		t.Error("memory is given back twice")
	}
}

// After a fault nothing works, as on a card, and what is said names it.
func TestLost(t *testing.T) {
	d := New(1 << 20)
	m, err := d.Load(program(32, "ld.global.b32 %r1, [16]; mov.b64 %rd1, 0;"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := m.Function(device.Signature{Name: "test", Params: 3, Threads: 32})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := d.NewStream()
	one := device.Grid{X: 1, Y: 1, Z: 1}
	fault := s.Launch(f, one, 0, 0, 0)
	_, memory := d.Alloc(1)
	_, stream := d.NewStream()
	for _, err := range []error{fault, memory, stream, s.Wait(), s.Launch(f, one, 0, 0, 0), s.Upload(1, []byte{1}), s.Run(&graph{device: d})} {
		if !errors.Is(err, device.ErrLost) || !strings.Contains(err.Error(), "ld.global.b32 %r1, [16];: 4 bytes at 0x10, outside") {
			t.Errorf("%v, want it to be lost", err)
		}
	}
}

func TestSignatures(t *testing.T) {
	m, err := New(1).Load(program(32, "mov.b64 %rd1, 0;"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []device.Signature{{Name: "other", Params: 3, Threads: 32}, {Name: "test", Params: 2, Threads: 32}, {Name: "test", Params: 3, Threads: 64}} {
		if _, err := m.Function(s); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
	s, _ := New(1).NewStream()
	f := &function{signature: device.Signature{Params: 0}}
	if err := s.Launch(foreign{f}, device.Grid{X: 1, Y: 1, Z: 1}); err == nil {
		t.Error("a kernel of another device is launched")
	}
	if err := s.Run(&graph{device: New(1)}); err == nil {
		t.Error("a graph of another device is run")
	}
}

type foreign struct{ *function }
