package cache

import "math"

// full keeps every token. Its Plan has a slot for each, so nothing asks it.
type full struct{}

func (full) Grain() Grain { return PerLayer }
func (full) Minimum() int { return 1 }

func (full) Observes() Observation { return Observation{} }

func (full) Score(scores []float32, _ Statistics) {
	for i := range scores {
		scores[i] = float32(math.Inf(1))
	}
}
