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
	Batch  int                `json:"batch"` // answers that get a token in each pass
	Passes int64              `json:"passes"`
	Stages []string           `json:"stages"` // in the order of a pass
	Ms     map[string]float64 `json:"ms"`     // of each stage
	Held   int64              `json:"held_bytes"`
	Limits Limits             `json:"limits,omitzero"` // beside it; where it was not probed, of its session
}

// CacheText is the step's cache with its budget.
func (s Step) CacheText() string { return withBudget(s.Cache, s.Budget) }

// Label names the step.
func (s Step) Label() string {
	label := fmt.Sprintf("%s, depth %d", s.CacheText(), s.Depth)
	if s.Batch > 1 {
		label += fmt.Sprintf(", %d answers", s.Batch)
	}
	return label
}

// Rate is the tokens of all its answers in a second.
func (s Step) Rate() float64 { return 1000 * float64(s.Batch) / s.Total() }

// Total is the milliseconds of all stages.
func (s Step) Total() float64 {
	total := 0.0
	for _, ms := range s.Ms {
		total += ms
	}
	return total
}

// MeasureStep profiles the passes of some answers at a time, each after a prompt of
// depth tokens, on an engine that was opened with decode.Options.Profile.
func MeasureStep(ctx context.Context, engine *decode.Engine, name string, spec cache.Spec, budget cache.Budget, depth, batch, tokens int, seed uint64) (Step, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	random := rand.New(rand.NewPCG(seed, 1))
	depth = max(1, min(depth, engine.Info().Context-tokens))
	streams := make([]<-chan decode.Chunk, batch)
	for i := range streams {
		prompt := words(random, depth, engine.Info().Vocab)
		var err error
		if streams[i], err = engine.Submit(ctx, decode.Request{Prompt: prompt, Cache: spec, Budget: budget, MaxTokens: tokens, IgnoreEnd: true}); err != nil {
			return Step{}, err
		}
	}
	for _, stream := range streams {
		if err := untilText(stream); err != nil {
			return Step{}, err
		}
	}
	before, held := engine.Profile(), int64(0)
	for _, stream := range streams {
		r, err := decode.Wait(stream, nil)
		if err != nil {
			return Step{}, err
		}
		held += r.Memory.HeldBytes
	}
	return newStep(Step{Cache: name, Budget: budget.String(), Depth: depth, Batch: batch, Held: held}, engine.Profile().Since(before))
}

// newStep adds the stages of a profile to a Step.
func newStep(s Step, p model.Profile) (Step, error) {
	if p.Passes == 0 || p.Total() <= 0 {
		return Step{}, fmt.Errorf("the answers of %s at depth %d ended before they were watched: ask for more --tokens", s.Cache, s.Depth)
	}
	if s.Depth == 1 {
		s.Depth = 0
	}
	s.Passes, s.Ms = p.Passes, map[string]float64{}
	for stage, spent := range p.Spent {
		name := model.Stage(stage).String()
		s.Stages = append(s.Stages, name)
		s.Ms[name] = float64(spent) / float64(time.Millisecond) / float64(p.Passes)
	}
	return s, nil
}
