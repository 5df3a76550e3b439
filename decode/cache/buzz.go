package cache

import "slices"

// buzz is BUZZ (arXiv 2410.23079): beehive-structured sparse cache with segmented
// heavy hitters. What is held lies as sinks, an old sample, newer tokens and a window
// of the most recent ones. When it exceeds the budget, every third token of the old
// sample stays, and of each segment of five newer tokens the one that got most
// attention since it came, added up over the query heads of the group; together they
// are the next sample. The paper's window of 160 and threshold of 400 beside 4 sinks
// make a budget of 564 and are scaled to others. Tokens are numbered anew.
type buzz struct {
	stride int // tokens of a segment
}

const (
	buzzStride = 5
	buzzWindow = 160 // of a budget of buzzBudget tokens
	buzzBudget = SinkTokens + buzzWindow + 400
)

func (buzz) Grain() Grain          { return PerHead }
func (buzz) Minimum() int          { return 2 * SinkTokens }
func (buzz) Observes() Observation { return Observation{Rows: EveryRow, Reduce: Sum} }
func (buzz) Eager() bool           { return false }

// Decide thins until the budget holds: once, but for a long block of a prompt.
func (p buzz) Decide(kept []int32, s Statistics) []int32 {
	for i := range s.Positions {
		kept = append(kept, int32(i))
	}
	window := s.Keep * buzzWindow / buzzBudget
	sampled := s.Decided - window // tokens before this position are the old sample
	for len(kept) > s.Keep {
		kept = p.thin(kept, s, sampled, window)
		sampled = s.Position - window
	}
	return kept
}

// thin takes the sample and the newer tokens of kept apart, in place.
func (p buzz) thin(kept []int32, s Statistics, sampled, window int) []int32 {
	last := len(kept) - window
	old := SinkTokens
	for old < last && int(s.Positions[kept[old]]) < sampled {
		old++
	}
	to := SinkTokens
	for from := SinkTokens; from < old; from += (p.stride + 1) / 2 {
		kept[to] = kept[from]
		to++
	}
	for from := old; from < last; from += p.stride {
		best := kept[from]
		for _, i := range kept[from:min(last, from+p.stride)] {
			if s.Attention[i] > s.Attention[best] {
				best = i
			}
		}
		kept[to] = best
		to++
	}
	return slices.Delete(kept, to, last)
}
