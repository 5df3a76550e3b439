package cache

import "math"

// elastic is Elastic Cache (arXiv 2407.18121). Of a prompt, each layer keeps the
// tokens that got most attention from all queries and heads, the first and the newest
// in any case: the paper reads a prompt at once and protects its last token, a prompt
// that is read in blocks would lose its newest ones with every block. Every other token
// is merged into the nearest that stays behind the first, whose key and value become the
// mean of all of them. While an answer is decoded, the token at a fixed distance from
// the end goes whenever the budget is exceeded. The mean of keys that were turned to
// different positions is no key of any position: with keys false, values alone are
// merged.
type elastic struct {
	keys bool
}

const (
	elasticStart    = 1  // first tokens that stay
	elasticDistance = 25 // from the end: where tokens of an answer go
)

func (elastic) Grain() Grain          { return PerLayer }
func (elastic) Minimum() int          { return elasticStart + 1 }
func (elastic) Observes() Observation { return Observation{Rows: EveryRow, Reduce: Sum} }
func (elastic) Eager() bool           { return false }

// Merges tells that a prompt's tokens are merged: it comes in blocks of several.
func (p elastic) Merges(s Statistics) (values, keys bool) {
	return s.Coming > 1, s.Coming > 1 && p.keys
}

// Decide keeps the most important tokens of a prompt, and in an answer all but those
// that have come to the fixed point.
func (elastic) Decide(kept []int32, s Statistics) []int32 {
	n := len(s.Positions)
	newest := min(elasticDistance-1, s.Keep/2) // beyond the fixed point
	if s.Coming <= 1 || n <= s.Keep {
		for i := range n {
			if i < s.Keep-newest || i >= n-newest {
				kept = append(kept, int32(i))
			}
		}
		return kept
	}
	scores := make([]float32, n)
	copy(scores, s.Attention)
	for i := range n {
		if i < elasticStart || i >= n-newest {
			scores[i] = float32(math.Inf(1))
		}
	}
	return Keep(kept, scores, s.Keep, make([]int32, n))
}
