package heads

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The built-in weights are of the model that make fetch lays out, and agree with
// those of the float32 prototype, which had two terms more: at least 15 of the 18
// heaviest heads are the same.
func TestKnown(t *testing.T) {
	names, err := known.ReadDir(".")
	if err != nil || len(names) == 0 {
		t.Fatalf("nothing built in: %v", err)
	}
	content, err := known.ReadFile(names[0].Name())
	if err != nil {
		t.Fatal(err)
	}
	w, err := Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	flat, err := w.Flat(30, 3)
	if err != nil {
		t.Fatal(err)
	}
	order := make([]int, len(flat))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if flat[a] > flat[b] {
			return -1
		}
		return 1
	})
	prototype := []int{69, 56, 52, 24, 23, 65, 71, 47, 43, 61, 51, 67, 68, 62, 58, 63, 64, 27}
	same := 0
	for _, head := range order[:18] {
		if slices.Contains(prototype, head) {
			same++
		}
	}
	if same < 15 {
		t.Errorf("%d of the 18 heaviest heads are the prototype's: %v", same, order[:18])
	}
	got, found, err := Find(filepath.Join(t.TempDir(), "other.gguf"), w.Model)
	if err != nil || !found || got.Model != w.Model {
		t.Errorf("Find: %v, %v", found, err)
	}
	if _, found, err := Find("nowhere.gguf", strings.Repeat("0", 64)); found || err != nil {
		t.Errorf("an unknown model: %v, %v", found, err)
	}
}

func TestWeigh(t *testing.T) {
	w := Weigh(2, []float64{0.1, 0.4, 0, 0.2}, []float64{0.5, 0, 0.25, -1})
	want := [][]float32{{1.25, 1}, {0.5, 0.5}}
	for layer := range want {
		if !slices.Equal(w.Weights[layer], want[layer]) {
			t.Errorf("layer %d: %v, want %v", layer, w.Weights[layer], want[layer])
		}
	}
	if zero := Weigh(1, []float64{0}, []float64{0}); zero.Weights[0][0] != 0 {
		t.Errorf("of nothing: %v", zero.Weights)
	}
}

func TestWriteRead(t *testing.T) {
	w := Weigh(3, []float64{0.1, 0.4, 0, 0.2, 1, 0}, []float64{0.5, 0, 0.25, 1, 1, 1})
	w.Model, w.Name, w.Lengths = strings.Repeat("a", 64), "small", []int{1000}
	model := filepath.Join(t.TempDir(), "small.gguf")
	if err := w.Write(Beside(model)); err != nil {
		t.Fatal(err)
	}
	got, found, err := Find(model, w.Model)
	if err != nil || !found {
		t.Fatalf("Find: %v, %v", found, err)
	}
	flat, err := got.Flat(2, 3)
	if want := slices.Concat(w.Weights...); err != nil || !slices.Equal(flat, want) {
		t.Errorf("%v, %v; want %v", flat, err, want)
	}
	if _, _, err := Find(model, strings.Repeat("b", 64)); err == nil || !strings.Contains(err.Error(), "another model") {
		t.Errorf("weights of another model: %v", err)
	}
	for name, content := range map[string]string{
		"cut off":       `{"model":"`,
		"no weights":    `{"model":"` + w.Model + `"}`,
		"unknown field": `{"model":"` + w.Model + `","weights":[[1]],"x":1}`,
	} {
		if err := os.WriteFile(Beside(model), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Find(model, w.Model); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string]Weights{
		"layers":   {Weights: [][]float32{{1, 2, 3}}},
		"KV heads": {Weights: [][]float32{{1, 2}, {1, 2}}},
		"negative": {Weights: [][]float32{{1, 2, 3}, {1, -2, 3}}},
		"NaN":      {Weights: [][]float32{{1, 2, 3}, {1, float32(math.NaN()), 3}}},
	} {
		if _, err := bad.Flat(2, 3); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
