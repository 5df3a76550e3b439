package cache

import (
	"math"
	"slices"
)

const (
	snapPool   = 15 // tokens; 7 in the paper: 15 finds whole facts on our prompts
	snapWindow = 32 // tokens of a prompt that stay where the question is not known
)

// snapKV is SnapKV (arXiv 2404.14469): at the end of the prompt each KV head
// keeps the question and, of the tokens before it, those that the question's rows
// attended to most, added up over rows and query heads of the group and max-pooled
// over 15 neighbours. Tokens that come later are kept up to half of the budget.
type snapKV struct {
	pool   int // neighbours
	window int // tokens that stay at least
}

func (snapKV) Grain() Grain          { return PerHead }
func (p snapKV) Minimum() int        { return p.window + 1 }
func (snapKV) Observes() Observation { return Observation{Rows: QuestionRows, Reduce: Sum} }

// Score protects the newest tokens that came after the choice, half of the budget
// of them; the others go by the question's scores, the tokens without one first.
func (snapKV) Score(scores []float32, s Statistics) {
	copy(scores, s.Attention)
	for i := max(0, len(scores)-s.Keep/2); i < len(scores); i++ {
		if int(s.Positions[i]) >= s.Chosen {
			scores[i] = float32(math.Inf(1))
		}
	}
}

// Choose keeps, for each KV head, the question's tokens (or the last 32, if they
// are fewer) and the highest of those before; of equal ones, as a pool gives, the
// first.
func (p snapKV) Choose(s Staged) Choice {
	c := Choice{Kept: make([][]int32, len(s.Positions)), Scores: make([][]float32, len(s.Positions))}
	var pooled []float32
	var ranks []int32
	for i, positions := range s.Positions {
		n := len(positions)
		before, _ := slices.BinarySearch(positions, int32(s.Question))
		before = min(before, max(0, n-p.window))
		last := max(before, n-s.Keep[i]) // of what stays in any case, as much as may
		pooled = slices.Grow(pooled[:0], before)[:before]
		ranks = slices.Grow(ranks[:0], before)[:before]
		maxPool(pooled, s.Attention[i][:before], p.pool)
		slices.Reverse(pooled) // Keep prefers the last of equals
		kept := Keep(make([]int32, 0, min(n, s.Keep[i])), pooled, s.Keep[i]-(n-last), ranks)
		slices.Reverse(pooled)
		slices.Reverse(kept)
		for j, at := range kept {
			kept[j] = int32(before-1) - at
			c.Scores[i] = append(c.Scores[i], pooled[kept[j]])
		}
		for at := last; at < n; at++ {
			kept, c.Scores[i] = append(kept, int32(at)), append(c.Scores[i], float32(math.Inf(1)))
		}
		c.Kept[i] = kept
	}
	return c
}

// maxPool writes to dst the maximum of x over width neighbours, itself in their
// middle; windows are cut off at the ends.
func maxPool(dst, x []float32, width int) {
	for i := range dst {
		dst[i] = slices.Max(x[max(0, i-width/2):min(len(x), i+width/2+1)])
	}
}
