package decode

import (
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/decode/model"
)

// likelyOf is what a device tells of logits; off is the error of the sum, in parts of what is allowed.
func likelyOf(logits []float32, n int, heat float32, off float64) *model.Likely {
	l := &model.Likely{Vocab: len(logits)}
	for i, x := range logits {
		l.Tokens = append(l.Tokens, model.Token{ID: int32(i), Logit: x})
	}
	slices.SortStableFunc(l.Tokens, func(a, b model.Token) int { return cmp.Compare(b.Logit, a.Logit) })
	for _, x := range logits {
		l.Sum += math.Exp(float64(x-l.Tokens[0].Logit) / float64(heat))
	}
	l.Sum *= 1 + off*model.LikelyError
	l.Tokens = l.Tokens[:min(n, len(logits))]
	return l
}

// What Choose settles is what Next chooses from all logits, draw after draw; and it settles what is usual.
func TestChoose(t *testing.T) {
	for _, test := range []struct {
		name     string
		sampling Sampling
		least    float64 // share of draws that are settled
	}{
		{"greedy", Sampling{}, 1},
		{"greedy with a penalty", Sampling{RepeatPenalty: 1.3}, 1},
		{"greedy with a reward", Sampling{RepeatPenalty: 0.9}, 0},
		{"top-k", Sampling{Temperature: 0.8, TopK: 40}, 0.95},
		{"top-k with a penalty", Sampling{Temperature: 0.8, TopK: 20, RepeatPenalty: 1.2}, 0.9},
		{"top-k beyond the list", Sampling{Temperature: 0.8, TopK: 100}, 0},
		{"top-p", Sampling{Temperature: 0.7, TopP: 0.9}, 0.9},
		{"top-p with a penalty", Sampling{Temperature: 0.5, TopP: 0.8, RepeatPenalty: 1.1}, 0.9},
		{"top-k and top-p", Sampling{Temperature: 1, TopK: 40, TopP: 0.95}, 0.9},
		{"min-p", Sampling{Temperature: 0.7, MinP: 0.1}, 0.9},
		{"top-p and min-p", Sampling{Temperature: 0.7, TopP: 0.9, MinP: 0.05}, 0.9},
		{"everything", Sampling{Temperature: 1}, 0},
		{"everything, cold", Sampling{Temperature: 0.01}, 0.95},
	} {
		t.Run(test.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(5, 6))
			test.sampling.Seed = 9
			one, other := sampler(t, test.sampling, 1, 2, 3), sampler(t, test.sampling, 1, 2, 3)
			const draws = 200
			settled := 0 // of those whose logits are steep, as those of a model are
			for i := range 2 * draws {
				logits, steep := make([]float32, 1500), 2/float64(1+i%2*20)
				for i := range logits {
					logits[i] = float32(math.Round(random.NormFloat64()*random.ExpFloat64()*steep*16) / 16) // so that some are equal
				}
				n, heat := one.Wants()
				got, ok, err := one.Choose(likelyOf(logits, n, heat, random.Float64()*1.8-0.9))
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					settled += 1 - i%2
				} else if got, err = one.Next(slices.Clone(logits)); err != nil {
					t.Fatal(err)
				}
				if want, _ := other.Next(logits); got != want {
					t.Fatalf("token %d is chosen (settled: %v), want %d", got, ok, want)
				}
			}
			if share := float64(settled) / draws; share < test.least {
				t.Errorf("%.3f of the draws are settled, want %v", share, test.least)
			} else {
				t.Logf("%.3f of the draws are settled", share)
			}
		})
	}
}

// A vocabulary of no more tokens than the list is settled by all of them.
func TestChooseFromAll(t *testing.T) {
	logits := []float32{1, 3, 2, 2, float32(math.Inf(-1))}
	for _, sampling := range []Sampling{{Temperature: 2, Seed: 3}, {Temperature: 2, TopP: 0.7, Seed: 3}, {Temperature: 2, TopK: 7, Seed: 3}} {
		one, other := sampler(t, sampling), sampler(t, sampling)
		for range 50 {
			got, ok, err := one.Choose(likelyOf(logits, likeliest, 2, 0))
			want, _ := other.Next(slices.Clone(logits))
			if got != want || !ok || err != nil {
				t.Fatal(got, ok, err, want)
			}
		}
	}
}

func TestChooseNotFinite(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		logits := []float32{1, bad, 2}
		if _, _, err := sampler(t, Sampling{}).Choose(likelyOf(logits, 1, 1, 0)); !errors.Is(err, ErrNotFinite) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	nothing := float32(math.Inf(-1))
	if _, _, err := sampler(t, Sampling{}).Choose(likelyOf([]float32{nothing, nothing}, 1, 1, 0)); !errors.Is(err, ErrNotFinite) {
		t.Error(err)
	}
}

// What the others could change is left open.
func TestChooseLeavesOpen(t *testing.T) {
	steps := func(high, low float32) []float32 { // ten tokens, and ninety others
		logits := make([]float32, 100)
		for i := range logits {
			if logits[i] = high; i >= 10 {
				logits[i] = low - float32(i)/1000
			}
		}
		return logits
	}
	first := make([]int32, RepeatWindow)
	for i := range first {
		first[i] = int32(i)
	}
	for name, test := range map[string]struct {
		sampling Sampling
		logits   []float32
		recent   []int32
	}{
		"about half of ten equal tokens":               {Sampling{Temperature: 1, TopP: 0.49995}, steps(0, -30), nil},
		"more than all that is known":                  {Sampling{Temperature: 1, TopP: 0.9}, steps(1, 0), nil},
		"as many as are known":                         {Sampling{Temperature: 1, TopK: likeliest}, steps(1, 0), nil},
		"all known tokens became less likely":          {Sampling{RepeatPenalty: 4}, steps(4, 3), first},
		"they did, and one of them is drawn":           {Sampling{Temperature: 1, TopK: 5, RepeatPenalty: 4}, steps(4, 3), first},
		"a token that is not known became likelier":    {Sampling{RepeatPenalty: 0.1}, steps(4, 3), []int32{99}},
		"the rest reaches what min-p asks for":         {Sampling{Temperature: 1, MinP: 0.1}, steps(1, 0), nil},
		"more than all, some of it less likely by now": {Sampling{Temperature: 1, TopP: 0.95, RepeatPenalty: 2}, steps(1, 0.9), []int32{97, 98}},
	} {
		s := sampler(t, test.sampling, test.recent...)
		n, heat := s.Wants()
		if token, settled, err := s.Choose(likelyOf(test.logits, n, heat, 0.5)); settled || err != nil {
			t.Errorf("%s: token %d is settled, error %v", name, token, err)
		}
	}
}
