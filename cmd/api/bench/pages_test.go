package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lessrag/decode/model"
)

// wellFormed reads a drawing to its end.
func wellFormed(t *testing.T, svg string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("the drawing is not well-formed: %v\n%s", err, svg)
		}
	}
}

func TestFigure(t *testing.T) {
	f := figure{title: `A & "B" <c>`, parts: []string{"one", "two"}, bars: []bar{
		{label: "first <", values: []float64{1, 2}, text: "3", mark: 4}, {label: "second", values: []float64{2, 2}, text: "4"}}}
	svg := f.svg()
	wellFormed(t, svg)
	if svg != f.svg() {
		t.Error("the same figure is drawn in two ways")
	}
	// Four units fill the width that labels and texts leave: a unit is 110 pixels.
	for _, want := range []string{`x="330.0" y="62" width="110.0"`, `x="440.0" y="62" width="220.0"`, `x1="770.0"`, "prefers-color-scheme:dark", "first &lt;"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
	wellFormed(t, figure{title: "nothing"}.svg())
	wellFormed(t, figure{bars: []bar{{label: "zero", values: []float64{0}}}}.svg())
}

func TestWritePages(t *testing.T) {
	r := someResults()
	r.Texts = &Texts{Tokens: 256, Chunks: 32, Runs: 5, Value: 9000, PeerName: "onnxruntime 1", PeerBatch: 4, PeerValue: 6000, Ratio: 1.5}
	r.Memory = &Memory{Cache: "sinks", Budget: "5%", Sequences: 4, Resident: 190e6, Weights: 96e6, Caches: 40e6, Scratch: 24e6, Unexplained: 30e6}
	r.Documents = []Documents{{Documents: 1000, Chunks: 9000, Bytes: 12e6, Seconds: 100, Embedding: 96, Again: 0.5, Processor: 180, Others: 8},
		{Documents: 200, Seconds: 20, Slices: make([]Slice, 4), Peer: &Pipeline{Name: "a plain one", Seconds: 50, Chunks: 1500, Ratio: 2.5, PureRatio: 2.4, ChunkRatio: 3}}}
	r.Finish()
	p := model.Profile{Passes: 2}
	p.Spent[model.Matmul], p.Spent[model.Attention] = 8*time.Millisecond, 2*time.Millisecond
	step, err := newStep(Step{Cache: "full", Depth: 1, Batch: 1, Held: 1e6}, p)
	if err != nil {
		t.Fatal(err)
	}
	several := step
	several.Batch, several.Limits = 8, Limits{ReadGBs: 50}
	r.Steps = []Step{step, several}
	dir := t.TempDir()
	if err := r.WritePages(dir); err != nil {
		t.Fatal(err)
	}
	for name, wants := range map[string][]string{
		"benchmarks.md": {"Measured 2026-01-02 on A processor", "| decode | 101 | 0 | 1 | full | 200 | tokens/s | 3 | 100–400 | 4000% of 20.0 |", "2.00× | 4.00× |", "bin/api bench <&>", "holds 190 MB", "onnxruntime 1", "so 1.50×",
			"| 1000 | 0 | 9000 | 12.0 | 100 | 10.0 | 90.0 | 0.12 | 96.0% |", "a plain one", "2.50× our time for the pages, 2.40× without its storing, 3.00× for a chunk", "against a plain pipeline in Python | 2.50×"},
		"benchmarks.svg":  {"</svg>", "decode at depth 0 against llama.cpp"},
		"performance.md":  {"memory gave 20.0 to 50.0 GB/s", "| full | 0 | 1 | 5.00 | 200 |", "| full | 0 | 8 | 5.00 | 1600 |", "| full | 0 | 8 | products: layers and logits | 4.00 | 80% |"},
		"performance.svg": {"</svg>", "full, depth 0<", "full, depth 0, 8 answers<", "5.00 ms"},
	} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(data), want) {
				t.Errorf("%s does not say %q:\n%s", name, want, data)
			}
		}
	}
}

func TestPrint(t *testing.T) {
	r := someResults()
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"reads 20.0 GB/s", "tokens/s", "4.00×", "✗ prefill of 8000 tokens, full, against llama.cpp: 2.00×, ≥ 2.50× wanted"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestNewStepRefusesNothing(t *testing.T) {
	if _, err := newStep(Step{Cache: "full"}, model.Profile{}); err == nil {
		t.Error("an empty profile is a step")
	}
}
