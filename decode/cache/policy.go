package cache

import "fmt"

// Grain tells how widely a decision of a Policy holds.
type Grain int

// One set of tokens for all KV heads of a layer, or a set for each.
const (
	PerLayer Grain = iota
	PerHead
)

// Statistics is what a Policy knows of the tokens that it scores: those that a
// KV head holds, in the order of their positions.
type Statistics struct {
	Layer, Head int
	Positions   []int32 // [tokens] original positions, rising
}

// Policy scores tokens; a higher score is kept. It is pure: the same statistics
// give the same scores, and it knows neither who stores nor who absorbs.
type Policy interface {
	// Score fills scores[i] for the token Positions[i]; +Inf protects it.
	Score(scores []float32, s Statistics)
	// Grain tells for how many KV heads one call of Score decides.
	Grain() Grain
	// Minimum is the smallest budget, in tokens, that the policy works with.
	Minimum() int
}

// NewPolicy is the policy of a Spec that is Available; any other is a broken
// invariant.
func NewPolicy(s Spec) Policy {
	switch s.String() {
	case Full:
		return full{}
	case Sinks:
		return sinks{}
	}
	panic(fmt.Sprintf("cache: no policy for %s", s))
}
