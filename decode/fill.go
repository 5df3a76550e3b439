package decode

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"lessrag/decode/cache"
	"lessrag/decode/model"
	"lessrag/decode/passages"
)

// fill is a passage that is to be computed for the store.
type fill struct {
	key    passages.Key
	tokens []int32    // the head, then the passage
	head   int        // tokens of the head
	cache  cache.Spec // that a memory is for
	share  float64    // of the passage's bytes that its memory takes; 0: all of it is kept
}

func (e *Engine) newFill(b *Blend, c cache.Spec, passage []int32) fill {
	return fill{key: passages.NewKey(e.identity, b.Tenant, e.kind(b, c), b.Head, passage), tokens: slices.Concat(b.Head, passage), head: len(b.Head),
		cache: c, share: b.Memory}
}

// worth tells whether a passage can be computed and is long enough to be stored.
func (f *fill) worth(most int) bool {
	return len(f.tokens)-f.head >= leastPassage && len(f.tokens) <= most
}

// feeder computes a passage block by block.
type feeder struct {
	fill
	sequence model.Sequence
	fed      int
}

// step feeds the next block of a passage, and returns it when all of it was.
func (f *feeder) step(b Blender, block int) (*passages.Passage, error) {
	if f.sequence == nil {
		spec := cache.Spec{}
		if f.share > 0 {
			spec.Policy = cache.H2O
		}
		plan, err := cache.NewDesk(spec, len(f.tokens), b.Shape(spec.Policy))
		if err != nil {
			return nil, err
		}
		if f.sequence, err = b.NewSequence(plan); err != nil {
			f.sequence = nil
			return nil, err
		}
	}
	n := min(block, len(f.tokens)-f.fed)
	if _, err := b.Forward([]model.Work{{Sequence: f.sequence, Tokens: f.tokens[f.fed : f.fed+n], Prompt: true}}); err != nil {
		return nil, err
	}
	if f.fed += n; f.fed < len(f.tokens) {
		return nil, nil
	}
	if f.share > 0 {
		plan, err := f.memoryPlan(b.Shape(f.cache.Policy))
		if err != nil {
			return nil, fmt.Errorf("a memory in %g of the bytes of %d tokens: %w", f.share, len(f.tokens)-f.head, err)
		}
		return b.Distil(f.sequence, f.head, plan)
	}
	return b.Passage(f.sequence, f.head, len(f.tokens)-f.head)
}

// memoryPlan is of a sequence in the share of the passage's bytes, with the states of
// the shape's policy.
func (f *fill) memoryPlan(shape cache.Shape) (cache.Plan, error) {
	n := len(f.tokens) - f.head
	shape.Interval = 0
	return cache.NewPlan(cache.Spec{Policy: cache.H2O, State: f.cache.State}, cache.Budget{Bytes: int64(f.share * float64(int64(n)*shape.TokenBytes()))}, shape)
}

func (f *feeder) free() error {
	if f.sequence == nil {
		return nil
	}
	s := f.sequence
	f.sequence = nil
	return s.Free()
}

// Remember computes those passages of a prompt that the store does not hold, between
// the passes of running answers: for a cache, if memories are wanted. It tells how many it computed.
func (e *Engine) Remember(ctx context.Context, prompt []int32, b Blend, c cache.Spec) (computed int, err error) {
	store := e.options.Passages
	if store == nil {
		return 0, &InvalidError{Field: "blend", Reason: "this engine has no store of passages"}
	}
	if e.blender == nil {
		return 0, &InvalidError{Field: "blend", Reason: "this device computes no passages ahead"}
	}
	if err := e.checkBlend(Request{Prompt: prompt, Blend: &b, Cache: c}); err != nil {
		return 0, err
	}
	for _, s := range b.Spans {
		f := &feeder{fill: e.newFill(&b, c, prompt[s[0]:s[1]])}
		if !f.worth(e.mostBlended()) || store.Has(f.key) {
			continue
		}
		p, err := e.compute(ctx, f)
		if err == nil {
			err = store.Put(f.key, p)
		}
		if err != nil {
			return computed, err
		}
		computed++
	}
	return computed, nil
}

// Forget drops all that is stored of a tenant's passages.
func (e *Engine) Forget(tenant string) error {
	if e.options.Passages == nil {
		return nil
	}
	return e.options.Passages.Forget(tenant)
}

// compute feeds a passage between the passes of running answers.
func (e *Engine) compute(ctx context.Context, f *feeder) (p *passages.Passage, err error) {
	for p == nil && err == nil {
		if gone := e.do(ctx, func(Backend) {
			p, err = f.step(e.blender, e.options.Block)
			e.loses(err)
		}); gone != nil {
			err = gone
		}
	}
	return p, errors.Join(err, f.free())
}
