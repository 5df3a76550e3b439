package decode

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func sampler(t *testing.T, s Sampling, prompt ...int32) *Sampler {
	t.Helper()
	made, err := NewSampler(s, prompt)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// frequencies draws n tokens from logs of probabilities.
func frequencies(t *testing.T, s Sampling, probabilities []float64, n int) []float64 {
	t.Helper()
	sampler := sampler(t, s)
	counts := make([]float64, len(probabilities))
	for range n {
		logits := make([]float32, len(probabilities))
		for i, p := range probabilities {
			logits[i] = float32(math.Log(p))
		}
		token, err := sampler.Next(logits)
		if err != nil {
			t.Fatal(err)
		}
		counts[token]++
	}
	for i := range counts {
		counts[i] /= float64(n)
	}
	return counts
}

func TestSamplerDistributions(t *testing.T) {
	p := []float64{0.05, 0.4, 0.1, 0.25, 0.2}
	root := []float64{0.22360680, 0.63245553, 0.31622777, 0.5, 0.44721360} // p^(1/2), sum 2.1195036
	for _, test := range []struct {
		name     string
		sampling Sampling
		want     []float64
	}{
		{"temperature 1", Sampling{Temperature: 1}, p},
		{"temperature 2", Sampling{Temperature: 2}, []float64{root[0] / 2.1195036, root[1] / 2.1195036, root[2] / 2.1195036, root[3] / 2.1195036, root[4] / 2.1195036}},
		{"top-k 2", Sampling{Temperature: 1, TopK: 2}, []float64{0, 0.4 / 0.65, 0, 0.25 / 0.65, 0}},
		{"top-k of all", Sampling{Temperature: 1, TopK: 5}, p},
		{"top-p 0.6 needs two", Sampling{Temperature: 1, TopP: 0.6}, []float64{0, 0.4 / 0.65, 0, 0.25 / 0.65, 0}},
		{"top-p 0.7 needs three", Sampling{Temperature: 1, TopP: 0.7}, []float64{0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85}},
		{"top-p of top-k's total", Sampling{Temperature: 1, TopK: 3, TopP: 0.75}, []float64{0, 0.4 / 0.65, 0, 0.25 / 0.65, 0}},
		{"tiny top-p leaves one", Sampling{Temperature: 1, TopP: 1e-6}, []float64{0, 1, 0, 0, 0}},
		{"min-p 0.3", Sampling{Temperature: 1, MinP: 0.3}, []float64{0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85}},
		{"min-p 1", Sampling{Temperature: 1, MinP: 1}, []float64{0, 1, 0, 0, 0}},
		{"greedy", Sampling{}, []float64{0, 1, 0, 0, 0}},
		{"cold", Sampling{Temperature: 1e-6}, []float64{0, 1, 0, 0, 0}},
	} {
		const n = 40000
		got := frequencies(t, test.sampling, p, n)
		for i, want := range test.want {
			if limit := 5 * math.Sqrt(want*(1-want)/n); !(math.Abs(got[i]-want) <= limit) {
				t.Errorf("%s: token %d in %.4f of the draws, want %.4f", test.name, i, got[i], want)
			}
		}
	}
}

func TestSamplerIsDeterministic(t *testing.T) {
	p := make([]float64, 500)
	for i := range p {
		p[i] = 1 + float64(i%7)
	}
	draw := func(seed uint64) []float64 {
		return frequencies(t, Sampling{Temperature: 1, TopP: 0.9, Seed: seed}, p, 300)
	}
	if !slices.Equal(draw(7), draw(7)) {
		t.Error("the same seed gave other tokens")
	}
	if slices.Equal(draw(7), draw(8)) {
		t.Error("another seed gave the same tokens")
	}
}

func TestSamplerEqualCandidates(t *testing.T) {
	s := sampler(t, Sampling{Temperature: 1, TopK: 3})
	for range 200 {
		token, err := s.Next(make([]float32, 50))
		if err != nil || token > 2 {
			t.Fatalf("token %d, %v: of equal ones the first three are kept", token, err)
		}
	}
}

func TestRepeatPenalty(t *testing.T) {
	next := func(logits []float32, prompt ...int32) int32 {
		token, err := sampler(t, Sampling{RepeatPenalty: 2}, prompt...).Next(logits)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	if got := next([]float32{5, 4, 1}, 0); got != 1 {
		t.Errorf("a repeated likely token was chosen: %d", got)
	}
	if got := next([]float32{-1, -1.5, -9}, 0); got != 1 {
		t.Errorf("a negative logit was made likelier: %d", got)
	}
	if got := next([]float32{5, 2, 1}, 0, 0, 0); got != 0 {
		t.Errorf("a token that occurs three times was penalised more than once: %d", got)
	}
	long := append([]int32{0}, make([]int32, RepeatWindow)...)
	for i := range RepeatWindow {
		long[i+1] = 2
	}
	if got := next([]float32{5, 4, 1}, long...); got != 0 {
		t.Errorf("a token before the window was penalised: %d", got)
	}
}

func TestSamplerRefusesWhatIsNotFinite(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for name, logits := range map[string][]float32{
		"one NaN":         {1, nan, 2},
		"NaN first":       {nan, 1},
		"all impossible":  {-inf, -inf},
		"infinitely sure": {1, inf},
		"nothing":         {},
	} {
		for _, temperature := range []float32{0, 1} {
			if token, err := sampler(t, Sampling{Temperature: temperature, TopP: 0.9}).Next(logits); !errors.Is(err, ErrNotFinite) {
				t.Errorf("%s: token %d, %v", name, token, err)
			}
		}
	}
	for range 50 {
		if token, err := sampler(t, Sampling{Temperature: 1}).Next([]float32{-inf, 3, -inf}); err != nil || token != 1 {
			t.Errorf("an impossible token: %d, %v", token, err)
		}
	}
}

func TestSamplingIsChecked(t *testing.T) {
	nan := float32(math.NaN())
	for field, s := range map[string]Sampling{
		"temperature":    {Temperature: nan},
		"top_p":          {TopP: 1.5},
		"min_p":          {MinP: -0.1},
		"top_k":          {TopK: -1},
		"repeat_penalty": {RepeatPenalty: float32(math.Inf(1))},
	} {
		_, err := NewSampler(s, nil)
		var wrong *InvalidError
		if !errors.As(err, &wrong) || wrong.Field != field || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func BenchmarkSampler(b *testing.B) {
	logits := make([]float32, 49152)
	for i := range logits {
		logits[i] = float32(math.Sin(float64(i)*1.7) * 8)
	}
	for name, s := range map[string]Sampling{"greedy": {}, "temperature": {Temperature: 0.8}, "top-p": {Temperature: 0.8, TopP: 0.95, TopK: 40}, "top-p of all": {Temperature: 1, TopP: 0.95}} {
		b.Run(name, func(b *testing.B) {
			sampler, _ := NewSampler(s, nil)
			for b.Loop() {
				if _, err := sampler.Next(logits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
