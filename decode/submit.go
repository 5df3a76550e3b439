package decode

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"lessrag/decode/cache"
)

// Submit starts a request, or refuses it at once: *InvalidError,
// *PromptTooLongError, *MemoryError, *QueueFullError, ErrClosed or an error of
// package cache. Chunks must be read until the channel is closed, or ctx be
// cancelled: then the sequence stops between two tokens, or inside a block of its
// prompt, and its memory is free. A reader that lags delays nobody.
func (e *Engine) Submit(ctx context.Context, r Request) (<-chan Chunk, error) {
	j, err := e.newJob(ctx, r)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	if err = e.room(1, j.plan.Bytes); err == nil {
		e.waiting = append(e.waiting, j)
		j.unwatch = context.AfterFunc(ctx, e.stirAll)
	}
	e.mu.Unlock()
	if err != nil {
		return nil, err
	}
	e.stirAll()
	return j.out.chunks, nil
}

// stir wakes the engine's goroutine, if it sleeps.
func (e *Engine) stir() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// newJob checks a request and plans its memory.
func (e *Engine) newJob(ctx context.Context, r Request) (*job, error) {
	vocab := e.backend.Config().Vocab
	switch {
	case len(r.Prompt) == 0:
		return nil, &InvalidError{Field: "prompt", Reason: "has no tokens"}
	case r.MaxTokens < 0:
		return nil, &InvalidError{Field: "max_tokens", Reason: "must not be negative"}
	case r.Question < 0 || r.Question > len(r.Prompt):
		return nil, &InvalidError{Field: "question", Reason: fmt.Sprintf("of %d tokens is not the end of a prompt of %d", r.Question, len(r.Prompt))}
	}
	for _, tokens := range []struct {
		field string
		ids   []int32
	}{{"prompt", r.Prompt}, {"force", r.Force}} {
		for i, token := range tokens.ids {
			if token < 0 || int(token) >= vocab {
				return nil, &InvalidError{Field: tokens.field, Reason: fmt.Sprintf("token %d is %d, outside the vocabulary of %d", i, token, vocab)}
			}
		}
	}
	for _, stop := range r.Stop {
		if stop == "" {
			return nil, &InvalidError{Field: "stop", Reason: "must not hold an empty text"}
		}
	}
	if r.Blend != nil {
		if err := e.checkBlend(r); err != nil {
			return nil, err
		}
	}
	sampler, err := NewSampler(r.Sampling, r.Prompt)
	if err != nil {
		return nil, err
	}
	if len(r.Force) > 0 {
		r.MaxTokens = len(r.Force)
	}
	plan, maxTokens, err := e.plan(r)
	if err != nil {
		return nil, err
	}
	if len(r.Force) > maxTokens {
		return nil, &InvalidError{Field: "force", Reason: fmt.Sprintf("has %d tokens, and %d fit after the prompt", len(r.Force), maxTokens)}
	}
	if plan.Bytes > e.options.CacheMemory {
		return nil, &MemoryError{Need: plan.Bytes, Have: e.options.CacheMemory}
	}
	return &job{ctx: ctx, blend: e.find(r), prompt: slices.Clone(r.Prompt), question: r.Question, staged: plan.Spec.Stages(), maxTokens: maxTokens, force: slices.Clone(r.Force), ignoreEnd: r.IgnoreEnd, plan: plan, sampler: sampler,
		text: newTextStream(r.Stop), out: newOutbox(), submitted: time.Now()}, nil
}

// asked is the cache of a request: without a question, vote has nothing to vote on
// and is tova.
func (r Request) asked() cache.Spec {
	spec := r.Cache
	if spec.Policy == cache.Vote && r.Question == 0 {
		spec.Policy = cache.TOVA
	}
	return spec
}

// plan is the memory of a request, and how many tokens it may produce in it. A
// full cache without a budget gets a slot for every token of prompt and answer;
// with one, the answer ends where the budget does.
func (e *Engine) plan(r Request) (cache.Plan, int, error) {
	spec, budget := r.asked(), r.Budget
	shape := e.backend.Shape(spec.Policy)
	shape.Interval = e.options.Interval
	maxTokens := r.MaxTokens
	if maxTokens == 0 {
		maxTokens = DefaultMaxTokens
	}
	if !r.Cache.Bounded() && budget.IsZero() {
		budget.Tokens = min(shape.Context, len(r.Prompt)+min(maxTokens, shape.Context))
	}
	plan, err := cache.NewPlan(spec, budget, shape)
	if err != nil {
		return cache.Plan{}, 0, err
	}
	room := shape.Context
	switch {
	case spec.Unlimited():
		room = math.MaxInt32
	case !spec.Bounded():
		room = plan.Keep
	}
	if len(r.Prompt) >= room {
		return cache.Plan{}, 0, &PromptTooLongError{Have: len(r.Prompt), Max: room - 1}
	}
	return plan, min(maxTokens, room-len(r.Prompt)), nil
}

// Plan is the memory that a request with this cache and budget would take. A full
// cache without a budget is planned for the whole context.
func (e *Engine) Plan(spec cache.Spec, budget cache.Budget) (cache.Plan, error) {
	shape := e.backend.Shape(spec.Policy)
	shape.Interval = e.options.Interval
	return cache.NewPlan(spec, budget, shape)
}

// learnPace follows how long a slot is taken, for retryAfter. e.mu is held.
func (e *Engine) learnPace(j *job) {
	if taken := between(j.admitted, j.last); taken > 0 {
		e.pace += (taken - e.pace) / 8
	}
}

// retryAfter guesses when the queue will have moved: a slot's usual time, shared
// by those that run, in whole seconds from 1 to 60. e.mu is held.
func (e *Engine) retryAfter() time.Duration {
	running := 0
	for _, e := range e.all {
		running += len(e.running)
	}
	guess := e.pace / time.Duration(max(1, running))
	return min(max(guess.Round(time.Second), time.Second), time.Minute)
}
