package model

import (
	"fmt"
	"math"
	"testing"

	"lessrag/decode/cache"
)

// weights are the softmax weights of one row and query head over all tokens up to
// the row, in float64.
func (r *layerRun) weights(token, head int) []float64 {
	config := r.c.config
	q := r.c.turned(doubles(rowOf(r.q, token*config.Heads+head, config.HeadDim)), token)
	logs, total := make([]float64, token+1), 0.0
	for position := range logs {
		logs[position] = math.Exp(dot64(q, r.wide(r.storedK, position, head/config.Group())) / math.Sqrt(float64(config.HeadDim)))
		total += logs[position]
	}
	for position := range logs {
		logs[position] /= total
	}
	return logs
}

// What policies observe is what the softmax weights add up to, whatever the blocks.
func TestObserved(t *testing.T) {
	const tokens, question = 90, 7
	for _, group := range []int{1, 3} {
		for _, m := range []Math{Int8, Float32} {
			for _, policy := range []string{"h2o", "tova", "vote", "snapkv"} {
				t.Run(fmt.Sprintf("%s/%s/%d", policy, m, group), func(t *testing.T) {
					c := synthetic(t, m, 64, group, 2, 200)
					r := newLayerRun(t, c, "full", cache.Budget{}, 1, tokens)
					shape := c.Shape()
					spec := cache.Spec{Policy: policy}
					plan, err := cache.NewPlan(spec, cache.Budget{Percent: 100}, shape)
					if spec.AsksQuestion() {
						plan, err = cache.NewStaging(spec, 128, shape)
					}
					if err != nil {
						t.Fatal(err)
					}
					s, err := c.NewSequence(plan)
					if err != nil {
						t.Fatal(err)
					}
					defer s.Free()
					r.s = s.(*cache.Sequence)
					for _, n := range []int{68, 1, 1, 13} {
						r.feed(n)
					}
					r.question = question
					r.feed(question)
					first := map[string]int{"h2o": 0, "tova": tokens - 1, "vote": tokens - question, "snapkv": tokens - question}[policy]
					width := 1
					if policy == "vote" {
						width = group
					}
					staged := r.s.Staged()
					for kvHead, attention := range staged.Attention {
						want := make([]float64, tokens*width)
						for token := first; token < tokens; token++ {
							for g := range group {
								for position, p := range r.weights(token, kvHead*group+g) {
									if policy == "vote" {
										at := position*width + g
										want[at] = max(want[at], p)
									} else {
										want[position] += p
									}
								}
							}
						}
						if len(attention) != len(want) {
							t.Fatalf("%d numbers for %d tokens", len(attention), tokens)
						}
						for i, x := range attention {
							if !(math.Abs(float64(x)-want[i]) <= 1e-5*(1+want[i])) {
								t.Fatalf("KV head %d: number %d is %v, want %v", kvHead, i, x, want[i])
							}
						}
					}
				})
			}
		}
	}
}
