package passages

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGate(t *testing.T) {
	good := Gate{Model: strings.Repeat("a", 64), Share: 0.15, Questions: 100, FullF1: 0.2, BlendF1: 0.19, FullNLL: 1, BlendNLL: 1.04}
	for _, test := range []struct {
		f1, nll float64
		open    bool
	}{{0.2, 1, true}, {0.181, 1.049, true}, {0.179, 1, false}, {0.2, 1.051, false}, {0.5, 0.5, true}} {
		g := good
		g.BlendF1, g.BlendNLL = test.f1, test.nll
		if g.Open() != test.open {
			t.Errorf("%+v: open %v", test, g.Open())
		}
		if said := strings.Contains(g.String(), ": on"); said != test.open {
			t.Errorf("%+v: says %q", test, g)
		}
	}

	few := good
	if few.Questions--; few.Open() || !strings.Contains(few.String(), "cannot tell") {
		t.Errorf("opened by %d questions: %s", few.Questions, few)
	}

	model := filepath.Join(t.TempDir(), "a.gguf")
	if _, found, err := FindGate(model, good.Model); found || err != nil {
		t.Errorf("found %v, %v where nothing is", found, err)
	}
	if err := good.Write(BesideModel(model)); err != nil {
		t.Fatal(err)
	}
	if g, found, err := FindGate(model, good.Model); !found || err != nil || g != good {
		t.Errorf("%+v, %v, %v", g, found, err)
	}
	if _, _, err := FindGate(model, strings.Repeat("b", 64)); err == nil || !strings.Contains(err.Error(), "another model") {
		t.Errorf("another model's gate: %v", err)
	}
	for _, content := range []string{"", "{}", `{"model":1}`, `{"modle":""}`, "[]"} {
		if err := os.WriteFile(BesideModel(model), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := FindGate(model, good.Model); !errors.Is(err, ErrGate) {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// TestKnownGate: what was measured of the default reader comes with the program, opens blending, and gives way to
// a file beside the model.
func TestKnownGate(t *testing.T) {
	const reader = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
	model := filepath.Join(t.TempDir(), "reader.gguf")
	g, found, err := FindGate(model, reader)
	if err != nil || !found || g.Model != reader || !g.Open() {
		t.Fatalf("%+v, %v, %v", g, found, err)
	}
	g.BlendF1 = 0
	if err := g.Write(BesideModel(model)); err != nil {
		t.Fatal(err)
	}
	if g, found, err := FindGate(model, reader); err != nil || !found || g.Open() {
		t.Errorf("beside the model: %+v, %v, %v", g, found, err)
	}
}
