package decode

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"lessrag/decode/cache"
	"lessrag/decode/model"
)

// PerplexityOptions say how a text is scored.
type PerplexityOptions struct {
	Window int        // tokens of a window; 0: 2,048 or the context if that is shorter
	Block  int        // tokens fed at once; 0: 1 for a bounded cache, the papers' token by token, otherwise the engine's block
	From   int        // only predictions made at this position of a window, 0-based, or later
	Cache  cache.Spec // one that asks a question is measured as tova, which it is without one
	Budget cache.Budget
}

// PerplexityReport is how well a model with a cache predicts a text.
type PerplexityReport struct {
	Tokens           int     `json:"tokens"` // predicted
	NLL              float64 `json:"nll"`    // mean negative log-likelihood, nats per token
	Perplexity       float64 `json:"perplexity"`
	BytesPerSequence int64   `json:"bytes_per_sequence"`
	Kept             int     `json:"kept"`     // tokens in the cache at the end of a window
	Absorbed         int     `json:"absorbed"` // and in its state
	StateNote        string  `json:"state_note,omitempty"`
}

// perplexityWindows are scored side by side at most.
const perplexityWindows = 8

// Perplexity cuts tokens into consecutive windows, drops a last partial one, and
// scores each from an empty cache: the mean negative log-likelihood of tokens
// 2…Window of every window. Running answers go on meanwhile.
func (e *Engine) Perplexity(ctx context.Context, tokens []int32, o PerplexityOptions) (PerplexityReport, error) {
	p, err := e.newPerplexity(tokens, o)
	if err != nil {
		return PerplexityReport{}, err
	}
	var report PerplexityReport
	var sum float64
	for len(tokens) >= p.Window {
		windows, err := p.score(ctx, tokens, &sum, &report)
		if err != nil {
			return PerplexityReport{}, err
		}
		tokens = tokens[windows*p.Window:]
	}
	report.NLL = sum / float64(report.Tokens)
	report.Perplexity = math.Exp(report.NLL)
	report.BytesPerSequence = p.plan.Bytes
	if math.IsNaN(report.NLL) || math.IsInf(report.NLL, 0) {
		return PerplexityReport{}, ErrNotFinite
	}
	return report, nil
}

// perplexity is one measurement, with its options filled in.
type perplexity struct {
	PerplexityOptions
	engine   *Engine
	plan     cache.Plan
	parallel int // windows side by side
}

func (e *Engine) newPerplexity(tokens []int32, o PerplexityOptions) (*perplexity, error) {
	config := e.backend.Config()
	if o.Window == 0 {
		o.Window = min(2048, config.Context)
	}
	if o.Block == 0 {
		o.Block = 1
		if !o.Cache.Bounded() {
			o.Block = e.options.Block
		}
	}
	if o.Cache.AsksQuestion() {
		o.Cache.Policy = cache.TOVA // a text has no question
	}
	limit := e.options.limits()
	switch {
	case o.Window < 2 || o.Window > config.Context && !o.Cache.Unlimited():
		return nil, &InvalidError{Field: "window", Reason: fmt.Sprintf("must be from 2 to the model's context of %d", config.Context)}
	case o.Block < 1 || o.Block > limit.Tokens:
		return nil, &InvalidError{Field: "block", Reason: fmt.Sprintf("must be from 1 to %d", limit.Tokens)}
	case o.From < 0 || o.From > o.Window-2:
		return nil, &InvalidError{Field: "from", Reason: fmt.Sprintf("must be from 0 to %d, the last position of a window that predicts", o.Window-2)}
	case len(tokens) < o.Window:
		return nil, &InvalidError{Field: "tokens", Reason: fmt.Sprintf("are %d, fewer than one window of %d", len(tokens), o.Window)}
	}
	for i, token := range tokens {
		if token < 0 || int(token) >= config.Vocab {
			return nil, &InvalidError{Field: "tokens", Reason: fmt.Sprintf("token %d is %d, outside the vocabulary of %d", i, token, config.Vocab)}
		}
	}
	if !o.Cache.Bounded() && o.Budget.IsZero() {
		o.Budget.Tokens = o.Window
	}
	plan, err := cache.NewPlan(o.Cache, o.Budget, e.backend.Shape(o.Cache.Policy))
	if err != nil {
		return nil, err
	}
	if !o.Cache.Bounded() && plan.Keep < o.Window-1 {
		return nil, &InvalidError{Field: "budget", Reason: fmt.Sprintf("a full cache of %d tokens does not hold a window of %d", plan.Keep, o.Window)}
	}
	if plan.Bytes > e.options.CacheMemory {
		return nil, &MemoryError{Need: plan.Bytes, Have: e.options.CacheMemory}
	}
	parallel := min(perplexityWindows, limit.Sequences, limit.Tokens/o.Block, int(e.options.CacheMemory/plan.Bytes))
	return &perplexity{PerplexityOptions: o, engine: e, plan: plan, parallel: parallel}, nil
}

// score feeds the first windows side by side, adds up what they predict and
// returns how many they were.
func (p *perplexity) score(ctx context.Context, tokens []int32, sum *float64, report *PerplexityReport) (windows int, err error) {
	e := p.engine
	sequences, err := e.takeSequences(ctx, p.plan, min(p.parallel, len(tokens)/p.Window))
	if err != nil {
		return 0, err
	}
	defer e.freeSequences(sequences, p.plan)
	works := make([]model.Work, len(sequences))
	for from := 0; from < p.Window-1; from += p.Block {
		to := min(p.Window-1, from+p.Block)
		for i := range works {
			window := tokens[i*p.Window : (i+1)*p.Window]
			works[i] = model.Work{Sequence: sequences[i], Tokens: window[from:to]}
			if to > p.From {
				works[i].Targets = window[from+1 : to+1]
			}
		}
		var failure error
		if err := e.do(ctx, func(b Backend) {
			results, err := b.Forward(works)
			if err != nil {
				failure = fmt.Errorf("forward pass: %w", err)
				return
			}
			for _, r := range results {
				for i, s := range r.Scores {
					if from+i >= p.From {
						*sum += s.NLL
						report.Tokens++
					}
				}
			}
		}); err != nil || failure != nil {
			return 0, errors.Join(err, failure)
		}
	}
	held := sequences[0].Held()
	report.Kept, report.Absorbed, report.StateNote = held.Kept, held.Absorbed, stateNote(e.info.Maps, p.plan, p.Window)
	return len(sequences), nil
}

// takeSequences makes up to n sequences beside the running ones: as many as have
// free bytes, waiting for the first.
func (e *Engine) takeSequences(ctx context.Context, p cache.Plan, n int) ([]model.Sequence, error) {
	for {
		var sequences []model.Sequence
		var failure error
		err := e.do(ctx, func(b Backend) { sequences, failure = e.newSequences(p, n) })
		if err := errors.Join(err, failure); err != nil || len(sequences) > 0 {
			return sequences, err
		}
		select {
		case <-time.After(retryReserve):
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.ended:
			return nil, ErrClosed
		}
	}
}

// retryReserve is how often a measurement looks for free memory.
const retryReserve = 20 * time.Millisecond

// newSequences makes up to n sequences in bytes that are free or that prefixes
// give up, or none. It runs on the engine's goroutine.
func (e *Engine) newSequences(p cache.Plan, n int) ([]model.Sequence, error) {
	var sequences []model.Sequence
	for len(sequences) < n && e.reclaim(p.Bytes) {
		s, err := e.backend.NewSequence(p)
		if err != nil {
			for _, s := range sequences {
				s.Free()
				e.giveBack(p.Bytes)
			}
			return nil, err
		}
		sequences = append(sequences, s)
		e.giveBack(-p.Bytes)
	}
	return sequences, nil
}

func (e *Engine) freeSequences(sequences []model.Sequence, p cache.Plan) {
	free := func(Backend) {
		for _, s := range sequences {
			s.Free()
			e.giveBack(p.Bytes)
		}
		sequences = nil
	}
	if e.do(context.Background(), free) != nil {
		free(nil) // the engine's goroutine has ended: nobody else uses them
	}
}

func (e *Engine) giveBack(bytes int64) {
	e.mu.Lock()
	e.free += bytes
	e.mu.Unlock()
	e.stir()
}
