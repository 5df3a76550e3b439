package decode

import (
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
	Memory float64  // above 0: of each passage its heavy hitters and the state of the rest are kept, in this share of its bytes, and nothing of it is computed anew; for a cache with a state
}

// DefaultShare is that of the paper (arXiv 2405.16444).
const DefaultShare = 0.15

// leastKnown is the share of a prompt that the store must have for it to be put together. Below, little is
// spared, and the next turn of the conversation would have no beginning to go on from, which spares most.
const leastKnown = 0.5

// leastPassage is how many tokens a passage has that is worth its bookkeeping.
const leastPassage = 32

// kind is what the store calls that which a cache keeps of a passage.
func (e *Engine) kind(b *Blend, c cache.Spec) string {
	switch {
	case b.Memory == 0:
		return "kv"
	case c.State == cache.Less:
		return fmt.Sprintf("memory %g less %s %s", b.Memory, c.Policy, e.states)
	}
	return fmt.Sprintf("memory %g %s", b.Memory, c.State)
}

// blending is a job's way through Blend.
type blending struct {
	known   []known       // in the store when the request came, rising; none when the prompt has been put together
	places  []model.Place // what the store gave of them when it began: one prompt at a time holds passages beside the store
	missing []fill        // to be computed when there is time
	share   float64
	stored  int  // tokens of places
	memory  bool // places are memories
	placed  int  // of them, those that were placed

	state *model.Blend // nil until it begins; then the prompt is not the scheduler's
}

// known is a passage of a prompt that the store has.
type known struct {
	fill
	at int // position of its first token in the prompt
}

// checkBlend refuses what is wrong with a request's Blend.
func (e *Engine) checkBlend(r Request) error {
	b := r.Blend
	if r.Cache.Policy == cache.Cascade {
		return &InvalidError{Field: "blend", Reason: "the cache cascade reads a prompt in chunks of its own and cannot take passages that were computed before; choose another cache, or turn blending off"}
	}
	if b.Memory != 0 && !(b.Memory > 0 && b.Memory < 1) {
		return &InvalidError{Field: "blend", Reason: fmt.Sprintf("a memory of %v of a passage's bytes is outside 0…1", b.Memory)}
	}
	if b.Memory > 0 && !r.Cache.Remembers() {
		return &InvalidError{Field: "blend", Reason: fmt.Sprintf("cache %s takes no passage memories: it needs a state, +less or +moment, with one of sinks, h2o, tova and corm", r.Cache)}
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

// find looks up the passages of a request: nil where nothing is blended.
func (e *Engine) find(r Request) *blending {
	b, store := r.Blend, e.options.Passages
	if b == nil || store == nil || e.blender == nil {
		return nil
	}
	found := &blending{share: b.Share, memory: b.Memory > 0}
	if found.share == 0 {
		found.share = DefaultShare
	}
	most := e.mostBlended()
	for _, s := range b.Spans {
		f := e.newFill(b, r.asked(), r.Prompt[s[0]:s[1]])
		if !f.worth(most) {
			continue
		}
		if store.Has(f.key) {
			found.known = append(found.known, known{f, s[0]})
			found.stored += s[1] - s[0]
			continue
		}
		found.missing = append(found.missing, f)
	}
	if len(r.Prompt) > most || float64(found.stored) < leastKnown*float64(len(r.Prompt)) {
		found.known = nil
	}
	e.mu.Lock()
	e.stats.Unknown += int64(len(found.missing))
	e.mu.Unlock()
	return found
}

// mostBlended is how many tokens a prompt may have that is put together from passages, or a passage with its head.
func (e *Engine) mostBlended() int {
	most := e.backend.Config().Context
	if e.options.onCards() {
		most = min(most, e.options.StagingTokens)
	}
	return most
}

// load takes from the store what it still has of the known passages. The others are
// read with the prompt.
func (b *blending) load(store *passages.Store) {
	b.stored = 0
	for _, k := range b.known {
		if p := store.Get(k.key); p != nil {
			b.places = append(b.places, model.Place{At: k.at, Passage: p})
			b.stored += p.Tokens
		}
	}
}

// blended tells whether a job's prompt is put together from passages.
func (j *job) blended() bool { return j.blend != nil && len(j.blend.known) > 0 }

// waitsForBlend tells whether the next of the job's prompt is not the scheduler's.
func (j *job) waitsForBlend() bool { return j.blended() && j.fed < len(j.prompt) }

// preferPrefix gives up blending where going on from a kept beginning, which is exact, computes no more.
func (e *Engine) preferPrefix(j *job) {
	if !j.blended() {
		return
	}
	spared := float64(j.blend.stored)
	if !j.blend.memory {
		spared *= 1 - j.blend.share
	}
	if n := e.known(j); n > 0 && float64(n) >= spared {
		j.blend.known = nil
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
	if err := e.blendOn(j); err != nil && !e.loses(err) {
		e.finish(j, "", fmt.Errorf("blend: %w", err))
	}
	return true
}

func (e *Engine) blendOn(j *job) error {
	b := j.blend
	if b.places == nil {
		if b.load(e.options.Passages); b.places == nil {
			b.known = nil
			return e.start(j) // as any other prompt
		}
	}
	if b.memory {
		return e.recallOn(j)
	}
	if b.state == nil {
		desk, err := e.takeDesk(j)
		if err != nil {
			return err
		}
		b.state = &model.Blend{Desk: desk, Tokens: j.prompt, Places: b.places, Share: b.share, Question: j.asked(e.options)}
	}
	done, err := e.blender.Blend(b.state, e.options.Block)
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
	b.state, b.places, b.known = nil, nil, nil
	e.take(j, model.Work{Sequence: j.sequence, Logits: true}, model.Result{Logits: logits})
	return nil
}

// recallOn goes on with a prompt of which some passages are only remembered: it is fed
// up to the next of them, or that is put in its place.
func (e *Engine) recallOn(j *job) (err error) {
	b := j.blend
	if j.sequence == nil {
		if j.sequence, err = e.backend.NewSequence(j.plan); err != nil {
			j.sequence = nil
			return err
		}
	}
	next := len(j.prompt)
	if b.placed < len(b.places) {
		next = b.places[b.placed].At
	}
	if j.fed == next {
		p := b.places[b.placed].Passage
		if err := e.blender.Place(j.sequence, p); err != nil {
			return err
		}
		b.placed++
		j.fed += p.Tokens
		return nil
	}
	n := min(e.options.Block, next-j.fed)
	w := model.Work{Sequence: j.sequence, Tokens: j.prompt[j.fed : j.fed+n], Logits: j.fed+n == len(j.prompt), Done: j.ctx.Done()}
	results, err := e.backend.Forward([]model.Work{w})
	if err != nil {
		return err
	}
	e.count(n, 0)
	j.fed += n
	j.out.progress(j.fed)
	if w.Logits || results[0].Abandoned {
		j.reused = b.stored
		e.mu.Lock()
		e.stats.Blended += int64(b.stored)
		e.mu.Unlock()
		b.places, b.known = nil, nil
		e.take(j, w, results[0])
	}
	return nil
}
