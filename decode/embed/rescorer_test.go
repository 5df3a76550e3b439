package embed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lessrag/lesskernels/cpu"
)

// TestRescorer holds the scores of passages to vectors computed one by one, the mean taken away.
func TestRescorer(t *testing.T) {
	pool := cpu.NewPool(2)
	t.Cleanup(pool.Close)
	const dir = "testdata/tiny-embedder"
	r, err := OpenRescorer(dir, pool)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(dir, pool)
	if err != nil {
		t.Fatal(err)
	}
	rows := tinyRows(t)[:5]
	var passages []string
	var vectors [][]float32
	for _, row := range rows {
		passages = append(passages, row.Passage)
		v, err := m.Embed(t.Context(), []string{row.Passage})
		if err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, v[0])
	}
	asked, err := m.EmbedQuery(t.Context(), rows[0].Question)
	if err != nil {
		t.Fatal(err)
	}
	scores, err := r.Score(t.Context(), rows[0].Question, passages)
	if err != nil || len(scores) != len(passages) {
		t.Fatalf("%d scores, %v", len(scores), err)
	}
	mean := func(i int) (m float64) {
		for _, v := range vectors {
			m += float64(v[i]) / float64(len(vectors))
		}
		return m
	}
	for k, v := range vectors {
		var dot, a, b float64
		for i := range v {
			x, y := float64(asked[i])-mean(i), float64(v[i])-mean(i)
			dot, a, b = dot+x*y, a+x*x, b+y*y
		}
		if want := dot / math.Sqrt(a*b); !(math.Abs(float64(scores[k])-want) <= 1e-4) {
			t.Errorf("passage %d has %g, want %g", k, scores[k], want)
		}
	}
	if !r.Added() || openTiny(t).Added() {
		t.Error("a second embedder's scores are added, a cross-encoder's are not")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Score(ended, "a", passages); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestCentredCosines(t *testing.T) {
	got := centredCosines([]float32{1, 0}, [][]float32{{1, 0}, {0, 1}})
	if len(got) != 2 || !(math.Abs(float64(got[0])-1) <= 1e-6) || !(math.Abs(float64(got[1])+1) <= 1e-6) {
		t.Errorf("got %g, want 1 and -1", got)
	}
	if got := centredCosines([]float32{1, 0}, [][]float32{{0, 1}}); len(got) != 1 || got[0] != 0 {
		t.Errorf("one passage is its own mean and gets %g, want 0", got)
	}
	if got := centredCosines([]float32{1, 0}, nil); len(got) != 0 {
		t.Errorf("no passages get %g", got)
	}
}

// TestPassagePrompt puts what a model wants before passages there, under either name.
func TestPassagePrompt(t *testing.T) {
	pool := cpu.NewPool(1)
	t.Cleanup(pool.Close)
	plain, err := Open("testdata/tiny-embedder", pool)
	if err != nil {
		t.Fatal(err)
	}
	want, err := plain.Embed(t.Context(), []string{"told: cats"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"passage", "document"} {
		dir := filepath.Join(t.TempDir(), "prompted")
		if err := os.CopyFS(dir, os.DirFS("testdata/tiny-embedder")); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(`{"prompts": {"query": "asked: ", %q: "told: "}}`, name)
		if err := os.WriteFile(filepath.Join(dir, "config_sentence_transformers.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := Open(dir, pool)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Embed(t.Context(), []string{"cats"})
		if err != nil || !slices.Equal(got[0], want[0]) {
			t.Errorf("%s: another vector than that of the prompt and the text; %v", name, err)
		}
		asked, err := m.EmbedQuery(t.Context(), "cats")
		if err != nil || slices.Equal(asked, want[0]) {
			t.Errorf("%s: a question got the prompt of passages; %v", name, err)
		}
	}
}
