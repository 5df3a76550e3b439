package model

import (
	"fmt"
	"math"
	"slices"
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
			for _, policy := range []string{"h2o", "tova", "vote", "snapkv", "buzz", "corm"} {
				t.Run(fmt.Sprintf("%s/%s/%d", policy, m, group), func(t *testing.T) {
					c := synthetic(t, m, 64, group, 2, 200)
					r := newLayerRun(t, c, "full", cache.Budget{}, 1, tokens)
					shape := c.Shape(policy)
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
					first := map[string]int{"h2o": 0, "buzz": 0, "corm": 0, "tova": tokens - 1, "vote": tokens - question, "snapkv": tokens - question}[policy]
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
									switch at := position*width + g; {
									case policy == "vote":
										want[at] = max(want[at], p)
									case policy != "corm":
										want[position] += p
									case p >= 1/float64(token+1):
										want[position] = float64(token + 1)
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

// A block that exceeds the budget is judged by the attention that its own rows gave,
// its own tokens included: what stays is what the weights say, and takes them along.
func TestObservedBlockThatDoesNotFit(t *testing.T) {
	const tokens, budget, group = 91, 40, 3
	for _, m := range []Math{Int8, Float32} {
		for _, policy := range []string{"h2o", "tova"} {
			c := synthetic(t, m, 64, group, 2, 200)
			r := newLayerRun(t, c, policy, cache.Budget{Tokens: budget}, 3, tokens)
			r.feed(tokens)
			given := make([][]float64, 2) // [kvHeads][tokens]
			for kvHead := range given {
				given[kvHead] = make([]float64, tokens)
				for token := range tokens {
					for g := range group {
						for position, p := range r.weights(token, kvHead*group+g) {
							if policy == "h2o" || token == tokens-1 {
								given[kvHead][position] += p
							}
						}
					}
				}
			}
			for kvHead, attention := range r.s.Staged().Attention {
				judged := given[kvHead]
				if policy == "tova" {
					judged = make([]float64, tokens)
					for i := range judged {
						judged[i] = given[0][i] + given[1][i]
					}
				}
				positions := r.s.Positions(0, kvHead)
				least, left := math.Inf(1), math.Inf(-1)
				for position, sum := range judged {
					at := slices.Index(positions, int32(position))
					recent := policy == "h2o" && position >= tokens-budget/2
					switch {
					case at < 0 && recent:
						t.Fatalf("%s: recent token %d is gone", policy, position)
					case at < 0:
						left = max(left, sum)
					case !recent:
						least = min(least, sum)
					}
					if want := given[kvHead][position]; at >= 0 && !(math.Abs(float64(attention[at])-want) <= 1e-5*(1+want)) {
						t.Fatalf("%s, KV head %d: token %d got %v, want %v", policy, kvHead, position, attention[at], want)
					}
				}
				if len(positions) != budget || !(left <= least+1e-6) {
					t.Errorf("%s, KV head %d: kept %d, the least of them with %v, and let one with %v go", policy, kvHead, len(positions), least, left)
				}
			}
		}
	}
}
