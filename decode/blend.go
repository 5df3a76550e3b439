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

// Blend tells which parts of a prompt are passages that other prompts may have as
// well. Those that the engine's store holds are not read again: their keys and values
// are put in their places, and a share of their rows is computed anew (model.Blend).
// The others are read with the prompt, and computed for the store when the engine has
// nothing else to do.
type Blend struct {
	Tenant string   // whose passages they are: no other tenant's prompt finds them
	Head   []int32  // what a passage is computed behind: the tokens that prompts begin with
	Spans  [][2]int // of the prompt's tokens, first and last but one, rising
	Share  float64  // of the passages' rows that are computed anew; 0: DefaultShare
}

// DefaultShare is that of the paper (arXiv 2405.16444).
const DefaultShare = 0.15

// leastPassage is how many tokens a passage has that is worth its bookkeeping.
const leastPassage = 32

// keysKind is what the store calls the keys and values of a whole passage.
const keysKind = "kv"

// blending is a job's way through Blend.
type blending struct {
	places  []model.Place // found in the store, rising
	missing []fill        // to be computed when there is time
	share   float64
	stored  int // tokens of places

	state *model.Blend // nil until it begins; then the prompt is not the scheduler's
}

// checkBlend refuses what is wrong with a request's Blend.
func (e *Engine) checkBlend(r Request) error {
	b := r.Blend
	if r.Cache.Policy == "cascade" {
		return &InvalidError{Field: "blend", Reason: "the cache cascade reads a prompt in chunks of its own and cannot take passages that were computed before; choose another cache, or turn blending off"}
	}
	if !(b.Share >= 0 && b.Share <= 1) {
		return &InvalidError{Field: "blend", Reason: fmt.Sprintf("a share of %v is outside 0…1", b.Share)}
	}
	vocab := int32(e.backend.Config().Vocab)
	if slices.ContainsFunc(b.Head, func(token int32) bool { return token < 0 || token >= vocab }) {
		return &InvalidError{Field: "blend", Reason: "its head has a token outside the vocabulary"}
	}
	end := 0
	for i, s := range b.Spans {
		if s[0] < end || s[1] <= s[0] || s[1] > len(r.Prompt) {
			return &InvalidError{Field: "blend", Reason: fmt.Sprintf("passage %d is from %d to %d, after one that ends at %d of %d tokens", i, s[0], s[1], end, len(r.Prompt))}
		}
		end = s[1]
	}
	return nil
}

// find looks up the passages of a request: nil where there is nothing to blend and
// nothing to compute for later. It may read files, and runs where Submit was called.
func (e *Engine) find(r Request) *blending {
	b, store := r.Blend, e.options.Passages
	if b == nil || store == nil {
		return nil
	}
	found := &blending{share: b.Share}
	if found.share == 0 {
		found.share = DefaultShare
	}
	context := e.backend.Config().Context
	for _, s := range b.Spans {
		f := e.newFill(b, r.Prompt[s[0]:s[1]])
		if !f.worth(context) {
			continue
		}
		if p := store.Get(f.key); p != nil {
			found.places = append(found.places, model.Place{At: s[0], Passage: p})
			found.stored += p.Tokens
			continue
		}
		found.missing = append(found.missing, f)
	}
	if len(r.Prompt) > context || found.stored == 0 {
		found.places, found.stored = nil, 0
	}
	return found
}

// blended tells whether a job's prompt is put together from passages.
func (j *job) blended() bool { return j.blend != nil && len(j.blend.places) > 0 }

// waitsForBlend tells whether the next of the job's prompt is not the scheduler's.
func (j *job) waitsForBlend() bool { return j.blended() && j.fed < len(j.prompt) }

// preferPrefix gives up blending where a kept beginning gives as much of the prompt,
// exactly.
func (e *Engine) preferPrefix(j *job) {
	if !j.blended() {
		return
	}
	end := func(n int) int { return e.scheduler.lastEnd(n, slices.Max(j.plan.Slots)) }
	if _, n, _ := e.prefixes.find(j.prompt[:j.reusable(e.options)], j.plan, end); n >= j.blend.stored {
		j.blend.places, j.blend.stored = nil, 0
	}
}

// blend goes on with the first prompt that is being put together, for as long as a
// block of a prompt takes. It tells whether there was one.
func (e *Engine) blend() bool {
	running := e.snapshot()
	i := slices.IndexFunc(running, (*job).waitsForBlend)
	if i < 0 {
		return false
	}
	j := running[i]
	if err := e.blendOn(j); err != nil {
		e.finish(j, "", fmt.Errorf("blend: %w", err))
	}
	return true
}

func (e *Engine) blendOn(j *job) error {
	b := j.blend
	if b.state == nil {
		desk, err := e.takeDesk(j)
		if err != nil {
			return err
		}
		b.state = &model.Blend{Desk: desk, Tokens: j.prompt, Places: b.places, Share: b.share, Question: j.asked(e.options)}
	}
	done, err := e.backend.Blend(b.state, e.options.Block)
	if err != nil || !done {
		return err
	}
	if err := e.clearDesk(j, b.state.Desk); err != nil {
		return err
	}
	e.count(len(j.prompt)-b.stored, 0)
	j.fed, j.reused = len(j.prompt), b.stored
	j.recomputed = max(0, b.state.Computed-(len(j.prompt)-b.stored))
	j.out.progress(j.fed)
	e.mu.Lock()
	e.stats.Blended += int64(b.stored)
	e.stats.Recomputed += int64(j.recomputed)
	e.mu.Unlock()
	logits := b.state.Logits
	b.state, b.places = nil, nil
	e.take(j, model.Work{Sequence: j.sequence, Logits: true}, model.Result{Logits: logits})
	return nil
}

// deskRound is what the slots of a desk are a multiple of, so that the next prompt of
// about the same length finds it large enough.
const deskRound = 1024

// takeDesk readies the scratch sequence in which a job's prompt is put together. It is
// one for the engine, as the staging is, and is no part of CacheMemory.
func (e *Engine) takeDesk(j *job) (model.Sequence, error) {
	n := len(j.prompt)
	if d := e.desk; d != nil && (d.Plan().Spec != j.plan.Spec.Desk() || d.Plan().Keep < n) {
		e.desk = nil
		if err := d.Free(); err != nil {
			return nil, fmt.Errorf("free the desk: %w", err)
		}
	}
	if e.desk == nil {
		shape := e.backend.Shape()
		plan, err := cache.NewDesk(j.plan.Spec, min(shape.Context, (n+deskRound-1)/deskRound*deskRound), shape)
		if err != nil {
			return nil, err
		}
		if e.desk, err = e.backend.NewSequence(plan); err != nil {
			e.desk = nil
			return nil, fmt.Errorf("desk: %w", err)
		}
		e.mu.Lock()
		e.stats.Desk = plan.Bytes + e.backend.Config().BlendBytes(plan.Keep)
		e.mu.Unlock()
	}
	e.backend.Reset(e.desk)
	return e.desk, nil
}

// clearDesk moves what the job's cache keeps of its prompt to the job's own sequence.
func (e *Engine) clearDesk(j *job, desk model.Sequence) (err error) {
	if j.staged {
		return e.settleFrom(j, desk)
	}
	if j.sequence, err = e.backend.NewSequence(j.plan); err != nil {
		j.sequence = nil
		return err
	}
	e.backend.Move(j.sequence, desk)
	return nil
}

// fill is a passage that is to be computed for the store.
type fill struct {
	key    passages.Key
	tokens []int32 // the head, then the passage
	head   int     // tokens of the head
}

func (e *Engine) newFill(b *Blend, passage []int32) fill {
	return fill{key: passages.NewKey(e.identity, b.Tenant, keysKind, b.Head, passage), tokens: slices.Concat(b.Head, passage), head: len(b.Head)}
}

// worth tells whether a passage can be computed and is long enough to be stored.
func (f *fill) worth(context int) bool {
	return len(f.tokens)-f.head >= leastPassage && len(f.tokens) <= context
}

// feeder computes a passage block by block.
type feeder struct {
	fill
	sequence model.Sequence
	fed      int
}

// step feeds the next block of a passage, and returns it when all of it was.
func (f *feeder) step(b Backend, block int) (*passages.Passage, error) {
	if f.sequence == nil {
		plan, err := cache.NewPlan(cache.Spec{}, cache.Budget{Tokens: len(f.tokens)}, b.Shape())
		if err != nil {
			return nil, err
		}
		if f.sequence, err = b.NewSequence(plan); err != nil {
			f.sequence = nil
			return nil, err
		}
	}
	n := min(block, len(f.tokens)-f.fed)
	if _, err := b.Forward([]model.Work{{Sequence: f.sequence, Tokens: f.tokens[f.fed : f.fed+n]}}); err != nil {
		return nil, err
	}
	if f.fed += n; f.fed < len(f.tokens) {
		return nil, nil
	}
	return b.Passage(f.sequence, f.head, len(f.tokens)-f.head), nil
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
// the passes of running answers. It tells how many it computed.
func (e *Engine) Remember(ctx context.Context, prompt []int32, b Blend) (computed int, err error) {
	store := e.options.Passages
	if store == nil {
		return 0, &InvalidError{Field: "blend", Reason: "this engine has no store of passages"}
	}
	if err := e.checkBlend(Request{Prompt: prompt, Blend: &b}); err != nil {
		return 0, err
	}
	for _, s := range b.Spans {
		f := &feeder{fill: e.newFill(&b, prompt[s[0]:s[1]])}
		if !f.worth(e.backend.Config().Context) || store.Has(f.key) {
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
		if gone := e.do(ctx, func(b Backend) { p, err = f.step(b, e.options.Block) }); gone != nil {
			err = gone
		}
	}
	return p, errors.Join(err, f.free())
}
