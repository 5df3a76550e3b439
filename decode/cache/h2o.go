package cache

import "math"

// h2o is the Heavy-Hitter Oracle (arXiv 2306.14048): half of the budget goes to
// the most recent tokens and half to those that got most attention from all
// queries so far, added up over the query heads of the group. Each KV head keeps
// a set of its own. What was evicted takes its sum along.
type h2o struct{}

func (h2o) Grain() Grain          { return PerHead }
func (h2o) Minimum() int          { return 2 }
func (h2o) Observes() Observation { return Observation{Rows: EveryRow, Reduce: Sum} }

func (h2o) Score(scores []float32, s Statistics) {
	copy(scores, s.Attention)
	protectLast(scores, s.Keep/2)
}

// protectLast protects the last n tokens.
func protectLast(scores []float32, n int) {
	for i := max(0, len(scores)-n); i < len(scores); i++ {
		scores[i] = float32(math.Inf(1))
	}
}
