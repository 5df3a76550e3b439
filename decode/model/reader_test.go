package model

import (
	"math"
	"testing"

	"lessrag/decode/cache"
)

// The forward passes against transformers' float32 one over the dequantised
// weights, on a row of 2,048 tokens.
func TestReader(t *testing.T) {
	for _, test := range []struct {
		math        Math
		top1        float64 // least share of positions with the same most likely token
		logits      float64 // largest |Δ| over the largest |logit|
		perplexity  float64 // largest relative difference
		spec, truth string
	}{
		{Float32, 0.999, 1e-3, 1e-4, "full", "full.nll"},
		{Int8, 0.97, 0.05, 5e-3, "full", "full.nll"},
	} {
		t.Run(string(test.math), func(t *testing.T) {
			f := readFixture(t, "reader.safetensors")
			c := newCPU(t, readerPath(), test.math, Limits{Tokens: 128, Sequences: 1})
			ids, nll := f.ints("ids"), f.floats(test.truth)
			best, logits := f.ints("full.best"), f.floats("full.logits")

			s := newSequence(t, c, test.spec, cache.Budget{})
			same, sum, truth := 0, 0.0, 0.0
			worst, largest := 0.0, 0.0
			for from := 0; from < len(ids)-1; from += 128 {
				to := min(len(ids)-1, from+128)
				r := forward(t, c, Work{Sequence: s, Tokens: ids[from:to], Targets: ids[from+1 : to+1], Logits: true})
				for i, score := range r.Scores {
					if score.Best == best[from+i] {
						same++
					}
					sum += score.NLL
					truth += float64(nll[from+i])
				}
				if to%128 != 0 {
					continue
				}
				row := logits[(to/128-1)*len(logits)/16:][:len(logits)/16]
				for i, want := range row {
					worst = max(worst, math.Abs(float64(r.Logits[i*16]-want)))
					largest = max(largest, math.Abs(float64(want)))
				}
			}
			n := float64(len(ids) - 1)
			share, off := float64(same)/n, math.Exp((sum-truth)/n)-1
			t.Logf("same top token %.4f, logits within %.2g, perplexity %+.4f%%", share, worst/largest, 100*off)
			if !(share >= test.top1) {
				t.Errorf("the same most likely token at %.4f of the positions, want %v", share, test.top1)
			}
			if !(worst <= test.logits*largest) {
				t.Errorf("logits differ by %.2g of the largest, want %v", worst/largest, test.logits)
			}
			if !(math.Abs(off) <= test.perplexity) {
				t.Errorf("perplexity differs by %.4f%%", 100*off)
			}
		})
	}
}

func newSequence(t testing.TB, c *CPU, spec string, budget cache.Budget) *cache.Sequence {
	t.Helper()
	return newSequenceEvery(t, c, spec, budget, 1)
}

// newSequenceEvery makes a sequence that evicts once in interval tokens.
func newSequenceEvery(t testing.TB, c *CPU, spec string, budget cache.Budget, interval int) *cache.Sequence {
	t.Helper()
	parsed, err := cache.ParseSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	shape := c.Shape(parsed.Policy)
	shape.Interval = interval
	p, err := cache.NewPlan(parsed, budget, shape)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSequence(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Free(); err != nil {
			t.Error(err)
		}
	})
	return s.(*cache.Sequence)
}

func forward(t testing.TB, c *CPU, w Work) Result {
	t.Helper()
	r, err := c.Forward([]Work{w})
	if err != nil {
		t.Fatal(err)
	}
	return r[0]
}
