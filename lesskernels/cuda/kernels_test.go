package cuda

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lessrag/lesskernels/cuda/device"
	"lessrag/lesskernels/cuda/ptx"
)

// The kernels were compiled from the sources as they are. That they are what these give,
// byte for byte, make verify-kernels proves.
func TestSources(t *testing.T) {
	sums, err := os.ReadFile("kernels/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, pattern := range []string{"src/*.py", "src/*.txt"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, found...)
	}
	slices.Sort(sources)
	want := ""
	for _, name := range sources {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want += fmt.Sprintf("%x  %s\n", sha256.Sum256(data), filepath.Base(name))
	}
	if string(sums) != want {
		t.Errorf("the sources of the kernels have changed: run make kernels\n%s\nwant\n%s", sums, want)
	}
}

// Every text is for the oldest cards, and lies beside the description that it is
// launched by.
func TestKernels(t *testing.T) {
	d := ptx.New(1)
	k, err := Load(d)
	if err != nil {
		t.Fatal(err)
	}
	if len(k.functions) < 20 {
		t.Errorf("%d kernels", len(k.functions))
	}
	for name, f := range k.functions {
		text, _, err := source(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text, "\n.version 7.0\n.target sm_80\n") {
			t.Errorf("%s is for other cards", name)
		}
		if s := f.Signature(); s.Shared > 99<<10 { // what compute 8.6 and 8.9 have for a block
			t.Errorf("%s takes %d bytes of shared memory", name, s.Shared)
		}
	}
	s, err := d.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.launch(s, "nothing", device.Grid{X: 1, Y: 1, Z: 1}); err == nil || !strings.Contains(err.Error(), "no kernel nothing") {
		t.Error(err)
	}
	if err := k.Attend(s, &Attention{Heads: Heads{8, 8, 64}}, 1, false, 1, 65); err == nil || !strings.Contains(err.Error(), "65 slots") {
		t.Error(err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}
