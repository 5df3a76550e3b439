package model

import (
	"math"
	"testing"

	"lessrag/decode/cache"
)

// The reader with a cache that evicts, token by token, against an independent
// program that evicts and attends in float32 (testdata/make_policies.py): one wrong
// token kept anywhere changes the predictions behind it.
func TestReaderEvicts(t *testing.T) {
	const budget = 48
	f := readFixture(t, "policies.safetensors")
	c := newCPU(t, readerPath(), Float32, Limits{Tokens: 4, Sequences: 2})
	ids := f.ints("ids")
	policies := []string{"h2o", "tova"}
	var works []Work
	for _, policy := range policies {
		works = append(works, Work{Sequence: newSequence(t, c, policy, cache.Budget{Tokens: budget})})
	}
	sums, truths := make([]float64, len(works)), make([]float64, len(works))
	for i := range len(ids) - 1 {
		for j := range works {
			works[j].Tokens, works[j].Targets = ids[i:i+1], ids[i+1:i+2]
		}
		results, err := c.Forward(works)
		if err != nil {
			t.Fatal(err)
		}
		for j, r := range results {
			want := float64(f.floats(policies[j] + ".nll")[i])
			if got := r.Scores[0].NLL; !(math.Abs(got-want) <= 5e-3*(1+want)) {
				t.Fatalf("%s: position %d: %v nats, want %v", policies[j], i, got, want)
			}
			if i >= budget {
				sums[j] += r.Scores[0].NLL
				truths[j] += want
			}
		}
	}
	n := float64(len(ids) - 1 - budget)
	for j, policy := range policies {
		t.Logf("%s: %.5f nats beyond the budget, want %.5f", policy, sums[j]/n, truths[j]/n)
		if !(math.Abs(sums[j]-truths[j]) <= 1e-3*n) {
			t.Errorf("%s: %.5f nats beyond the budget, want %.5f", policy, sums[j]/n, truths[j]/n)
		}
	}
	if !(math.Abs(truths[0]-truths[1]) > 1e-2*n) {
		t.Error("the policies cannot be told apart")
	}
}
