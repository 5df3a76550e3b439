package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/decode/model"
)

// Step is where the time of one pass went, on the mean of many.
type Step struct {
	Cache  string             `json:"cache"`
	Budget string             `json:"budget"`
	Depth  int                `json:"depth"`
	Passes int64              `json:"passes"`
	Stages []string           `json:"stages"` // in the order of a pass
	Ms     map[string]float64 `json:"ms"`     // of each stage
	Held   int64              `json:"held_bytes"`
}

// CacheText is the step's cache with its budget.
func (s Step) CacheText() string { return withBudget(s.Cache, s.Budget) }

// Total is the milliseconds of all stages.
func (s Step) Total() float64 {
	total := 0.0
	for _, ms := range s.Ms {
		total += ms
	}
	return total
}

// MeasureStep profiles the steps of one answer after a prompt of depth tokens, on
// an engine that was opened with decode.Options.Profile.
func MeasureStep(ctx context.Context, engine *decode.Engine, name string, spec cache.Spec, budget cache.Budget, depth, tokens int, seed uint64) (Step, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	random := rand.New(rand.NewPCG(seed, 1))
	depth = max(1, min(depth, engine.Info().Context-tokens))
	prompt := words(random, depth, engine.Info().Vocab)
	stream, err := engine.Submit(ctx, decode.Request{Prompt: prompt, Cache: spec, Budget: budget, MaxTokens: tokens, IgnoreEnd: true})
	if err != nil {
		return Step{}, err
	}
	if err := untilText(stream); err != nil {
		return Step{}, err
	}
	before := engine.Profile()
	r, err := last(stream)
	if err != nil {
		return Step{}, err
	}
	return newStep(name, budget.String(), depth, r.Memory.HeldBytes, engine.Profile().Since(before))
}

// newStep names the stages of a profile.
func newStep(name, budget string, depth int, held int64, p model.Profile) (Step, error) {
	if p.Passes == 0 || p.Total() <= 0 {
		return Step{}, fmt.Errorf("the profile of %s at depth %d is empty", name, depth)
	}
	if depth == 1 {
		depth = 0
	}
	s := Step{Cache: name, Budget: budget, Depth: depth, Passes: p.Passes, Held: held, Ms: map[string]float64{}}
	for stage, spent := range p.Spent {
		name := model.Stage(stage).String()
		s.Stages = append(s.Stages, name)
		s.Ms[name] = float64(spent) / float64(time.Millisecond) / float64(p.Passes)
	}
	return s, nil
}
