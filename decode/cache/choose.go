package cache

import (
	"fmt"
	"math"
	"slices"
)

// Chooser is a Policy that decides with a question at hand: once, at the end of a
// prompt (or of a chunk of one), for all KV heads of the model at a time. The
// prompt is fed to a staging sequence (NewStaging) that evicts nothing; the rows
// of the question are observed there. Later evictions ask Score, which finds the
// Choice's scores as Statistics.Attention.
type Chooser interface {
	Scorer
	Choose(Staged) Choice
}

// Staged is what a Chooser knows of a staging sequence. KV heads are numbered
// layer·kvHeads + head; each may hold other tokens.
type Staged struct {
	Layers, KVHeads, Group int

	Positions [][]int32   // [layers·kvHeads][tokens] original positions, rising
	Attention [][]float32 // [layers·kvHeads][tokens, width] of the question's rows; width is Group where the Observation's Reduce is Max (one number for each query head), otherwise 1
	Keep      []int       // [layers·kvHeads] tokens that each may keep if budgets are uniform; a Chooser may divide their sum otherwise
	Question  int         // position of the question's first token
	End       bool        // the prompt has ended: false between its chunks
	Slots     int         // tokens that a KV head of the staging sequence has room for

	Sentences []bool    // [positions] a sentence ends with the token; nil: nobody knows
	Weights   []float32 // [layers·kvHeads] how much each head finds answers; nil: not measured
}

// Choice is which of a staging sequence's tokens stay.
type Choice struct {
	Kept   [][]int32   // [layers·kvHeads] indices of what stays, rising
	Scores [][]float32 // [layers·kvHeads][kept], for later evictions; nil: all 0
	Keep   []int       // [layers·kvHeads] the budget of each KV head, for Plan.Divide; nil: as planned
}

// check panics where a Choice does not fit what s holds: a Chooser is wrong.
func (c Choice) check(s *Sequence) {
	if len(c.Kept) != len(s.heads) || c.Scores != nil && len(c.Scores) != len(s.heads) {
		panic(fmt.Sprintf("cache: a choice for %d KV heads, with scores for %d, of %d", len(c.Kept), len(c.Scores), len(s.heads)))
	}
	for i, kept := range c.Kept {
		if c.Scores != nil && len(c.Scores[i]) != len(kept) {
			panic(fmt.Sprintf("cache: KV head %d: %d scores for %d tokens", i, len(c.Scores[i]), len(kept)))
		}
		last := int32(-1)
		for _, at := range kept {
			if at <= last || int(at) >= s.heads[i].len {
				panic(fmt.Sprintf("cache: KV head %d: token %d after %d chosen, of %d", i, at, last, s.heads[i].len))
			}
			last = at
		}
	}
}

// Staged describes what a staging sequence holds, for a Chooser: its slices are
// valid until the sequence changes. The caller adds Keep, Question, End,
// Sentences and Weights.
func (s *Sequence) Staged() Staged {
	shape := s.plan.Shape
	g := Staged{Layers: shape.Layers, KVHeads: shape.KVHeads, Group: shape.Group, Slots: slices.Min(s.plan.Slots)}
	for i := range s.heads {
		h := &s.heads[i]
		g.Positions = append(g.Positions, h.positions[:h.len])
		g.Attention = append(g.Attention, h.attention[:h.len*s.width])
	}
	return g
}

// Retain leaves in a staging sequence what was chosen, in place, hands every
// other token over, and forgets what was observed.
func (s *Sequence) Retain(c Choice) {
	c.check(s)
	for i := range s.heads {
		h := &s.heads[i]
		n := h.len
		h.len = 0
		s.sift(i, *h, 0, n, c.Kept[i])
		clear(h.attention)
	}
}

// Take fills an empty sequence with what was chosen of a staging sequence of the
// same model, its states included, and hands over every other token: s absorbs
// them. The staging sequence stays as it is; Reset readies it for another prompt.
func (s *Sequence) Take(from *Sequence, c Choice) {
	c.check(from)
	if s.position != 0 || len(s.heads) != len(from.heads) {
		panic("cache: tokens are taken into a sequence that has some, or into another model's")
	}
	for i := range s.heads {
		h, source := &s.heads[i], from.heads[i]
		if s.plan.packs() {
			c.fit(i, s.plan.Keeps[i])
		}
		if len(c.Kept[i]) > len(h.positions) {
			panic(fmt.Sprintf("cache: KV head %d has %d slots for %d tokens", i, len(h.positions), len(c.Kept[i])))
		}
		s.states[i].copyFrom(&from.states[i])
		copy(h.queries, source.queries)
		s.prune(i, source.k[:source.len*s.plan.Shape.HeadDim])
		from.kept = c.Kept[i]
		from.merge(i, &source, head{}, Statistics{Positions: source.positions[:source.len], Coming: source.len})
		source.attention = nil // a Choice's scores take its place
		s.sift(i, source, 0, source.len, c.Kept[i])
		if c.Scores != nil {
			copy(h.attention, c.Scores[i])
		}
	}
	s.position = from.position
	s.evicted += from.evicted
	s.decided(from.position)
}

// fit leaves KV head i the n tokens with the highest scores, where packed groups left
// it fewer than it asked for.
func (c *Choice) fit(i, n int) {
	kept := c.Kept[i]
	if len(kept) <= n {
		return
	}
	scores := make([]float32, len(kept))
	if c.Scores != nil {
		scores = c.Scores[i]
	}
	stay := Keep(nil, scores, n, make([]int32, len(scores)))
	fewer, theirs := make([]int32, n), make([]float32, n)
	for j, at := range stay {
		fewer[j], theirs[j] = kept[at], scores[at]
	}
	c.Kept = slices.Clone(c.Kept)
	c.Kept[i] = fewer
	if c.Scores != nil {
		c.Scores = slices.Clone(c.Scores)
		c.Scores[i] = theirs
	}
}

// Rewind forgets the last n tokens, which every KV head must still hold: those of
// a probe. What was observed of others stays.
func (s *Sequence) Rewind(n int) {
	for i := range s.heads {
		h := &s.heads[i]
		if h.loose() < n || n > 0 && int(h.positions[h.len-n]) != s.position-n {
			panic(fmt.Sprintf("cache: rewind by %d tokens, of which KV head %d has not all", n, i))
		}
		h.len -= n
	}
	s.position -= n
}

// Reset empties the sequence, so that its memory can serve another prompt.
func (s *Sequence) Reset() {
	for i := range s.heads {
		h := &s.heads[i]
		h.len, h.settled, h.decided, h.turned, h.pruned = 0, 0, 0, false, false
		clear(h.attention)
		clear(h.queries)
		s.states[i].clear()
	}
	s.position, s.evicted = 0, 0
	s.decided(0)
}

// NewStaging plans a staging sequence of that many tokens: it evicts nothing by
// itself, observes the question's rows for the Chooser of the Spec, and has the
// states of those sequences that are filled from it. The error is an
// *UnavailableError or a *PlanError.
func NewStaging(spec Spec, tokens int, shape Shape) (Plan, error) {
	if err := spec.Available(); err != nil {
		return Plan{}, err
	}
	if !spec.Stages() || tokens < 1 || tokens > math.MaxInt32 {
		return Plan{}, &PlanError{Spec: spec, Budget: Budget{Tokens: tokens}, Reason: "no prompt is staged so"}
	}
	p := Plan{Spec: spec, Budget: Budget{Tokens: tokens}, Shape: shape, Staging: true}
	if reason := p.refuse(); reason != "" {
		return Plan{}, &PlanError{Spec: spec, Budget: p.Budget, Reason: reason}
	}
	p.Keep = min(tokens, shape.Context)
	p.divide(repeat(p.Keep, shape.Layers*shape.KVHeads))
	return p, nil
}
