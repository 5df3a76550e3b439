package train

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"lessrag/lesskernels"
)

// fixture is what testdata/make_fixture.py wrote.
type fixture struct {
	Heads    int                  `json:"heads"`
	KVHeads  int                  `json:"kv_heads"`
	HeadDim  int                  `json:"head_dim"`
	Hidden   int                  `json:"hidden"`
	Rank     int                  `json:"rank"`
	Rows     int                  `json:"rows"`
	Outputs  int                  `json:"outputs"`
	Q        []float32            `json:"q"`
	LSE      []float32            `json:"lse"`
	Sparse   []float32            `json:"sparse"`
	Exact    []float32            `json:"exact"`
	WO       []float32            `json:"wo"`
	K        [][]float32          `json:"k"`
	V        [][]float32          `json:"v"`
	Before   [][]int32            `json:"before"`
	At       []int32              `json:"at"`
	Left     [][]int32            `json:"left"`
	Weights  map[string][]float32 `json:"weights"`
	Loss     float64              `json:"loss"`
	Gradient map[string][]float64 `json:"gradient"`
}

func readFixture(t *testing.T) (fixture, lesskernels.FeatureShape, *Sample, *weights) {
	t.Helper()
	text, err := os.ReadFile("testdata/gradient.json")
	if err != nil {
		t.Fatal(err)
	}
	var f fixture
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	shape := lesskernels.FeatureShape{Heads: f.Heads, KVHeads: f.KVHeads, HeadDim: f.HeadDim, Hidden: f.Hidden, Rank: f.Rank}
	s := &Sample{Rows: f.Rows, Q: f.Q, LSE: f.LSE, Sparse: f.Sparse, Exact: f.Exact, At: f.At}
	for h := range f.KVHeads {
		s.Evicted = append(s.Evicted, Evicted{K: f.K[h], V: f.V[h], Before: f.Before[h], At: f.Left[h]})
	}
	w := newWeights(shape, true)
	for name, to := range w.named() {
		if copy(to, f.Weights[name]) != len(to) {
			t.Fatalf("%s has %d numbers, want %d", name, len(f.Weights[name]), len(to))
		}
	}
	return f, shape, s, w
}

func (w *weights) named() map[string][]float32 {
	return map[string][]float32{"Wq1": w.Wq1, "Wq2": w.Wq2, "Wk1": w.Wk1, "Wk2": w.Wk2, "Wk3": w.Wk3, "S1": w.S1, "S2": w.S2, "Fade": w.Fade}
}

// TestGradientIsPyTorchs compares loss and every number of the gradient with
// autograd's, in units of the largest of its matrix.
func TestGradientIsPyTorchs(t *testing.T) {
	f, shape, s, w := readFixture(t)
	l := NewLayer(shape, NewMetric(f.WO, f.Outputs, f.Heads*f.HeadDim))
	for round := range 2 { // scratch that was used gives the same
		grad := newWeights(shape, true)
		loss := l.gradient(grad, w, s, 1)
		if !(math.Abs(loss-f.Loss) <= 1e-5*f.Loss) {
			t.Errorf("round %d: loss %v, want %v", round, loss, f.Loss)
		}
		for name, got := range grad.named() {
			want, largest := f.Gradient[name], 0.0
			for _, x := range want {
				largest = max(largest, math.Abs(x))
			}
			if !(largest > 0) || len(want) != len(got) {
				t.Fatalf("%s: a gradient of %d numbers up to %v for %d weights", name, len(want), largest, len(got))
			}
			for i, x := range want {
				if !(math.Abs(float64(got[i])-x) <= 1e-4*largest) {
					t.Fatalf("round %d: %s[%d] = %v, want %v of at most %v", round, name, i, got[i], x, largest)
				}
			}
		}
	}
}

// TestLossIsOfTheFeatureMap walks the sample with lesskernels' LowRank and
// compares the loss: training and decoding compute the same state.
func TestLossIsOfTheFeatureMap(t *testing.T) {
	f, shape, s, w := readFixture(t)
	m, width := w.featureMap(shape), f.Heads*f.HeadDim
	sum := 0.0
	for row := range s.Rows {
		e := make([]float64, width)
		for head := range f.Heads {
			kvHead := head / (f.Heads / f.KVHeads)
			state := lesskernels.NewLowRank(1, f.Rank, f.HeadDim)
			psi, phi := make([]float32, f.Rank), make([]float32, f.Rank)
			for i := range s.Evicted[kvHead].Before[row] {
				m.Psi(psi, kvHead, s.Evicted[kvHead].K[int(i)*f.HeadDim:])
				for r, rate := range m.Rates(kvHead) {
					psi[r] *= float32(math.Exp(-rate * float64(s.At[row]-s.Evicted[kvHead].At[i])))
				}
				state.Absorb(0, psi, s.Evicted[kvHead].V[int(i)*f.HeadDim:])
			}
			m.Phi(phi, head, s.Q[(head*s.Rows+row)*f.HeadDim:])
			at := row*width + head*f.HeadDim
			p := lesskernels.Partial{Out: append([]float32(nil), s.Sparse[at:at+f.HeadDim]...), LSE: s.LSE[head*s.Rows+row]}
			low := lesskernels.Partial{Out: make([]float32, f.HeadDim)}
			state.Query(&low, 0, phi)
			p.Merge(low)
			for c, x := range p.Out {
				e[head*f.HeadDim+c] = float64(x - s.Exact[at+c])
			}
		}
		for o := range f.Outputs {
			y := 0.0
			for c, x := range e {
				y += x * float64(f.WO[o*width+c])
			}
			sum += y * y / float64(f.Outputs*s.Rows)
		}
	}
	got, _ := NewLayer(shape, NewMetric(f.WO, f.Outputs, width)).loss(w, s)
	if !(math.Abs(got-sum) <= 1e-5*sum) {
		t.Errorf("loss %v, want %v", got, sum)
	}
}
