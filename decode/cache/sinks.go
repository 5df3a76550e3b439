package cache

import "math"

// SinkTokens is how many first tokens of a sequence are attention sinks. Four
// are enough (arXiv 2309.17453, table 2).
const SinkTokens = 4

// sinks keeps the first four tokens and the most recent ones, at their original
// positions: the Λ-shaped mask of LM-Infinite (arXiv 2308.16137) over the sinks
// of StreamingLLM (arXiv 2309.17453). With budget B, the token at position t
// attends to positions 0…3, to t-(B-4)…t-1 and to itself.
type sinks struct {
	first int // tokens that stay: SinkTokens
}

func (sinks) Grain() Grain          { return PerLayer }
func (p sinks) Minimum() int        { return p.first + 1 }
func (sinks) Observes() Observation { return Observation{} }

func (p sinks) Score(scores []float32, s Statistics) {
	for i, position := range s.Positions {
		if int(position) < p.first {
			scores[i] = float32(math.Inf(1))
		} else {
			scores[i] = float32(position)
		}
	}
}
