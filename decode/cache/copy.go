package cache

import (
	"fmt"
	"math"
)

// Plain is the greatest number of first tokens after which a sequence with this
// plan holds all of them and nothing else: it has evicted none, and its policy
// counts nothing. Up to there, what it held after fewer tokens is still known, and
// is the same under every plan of the model.
func (p Plan) Plain() int {
	if rows := NewPolicy(p.Spec).Observes().Rows; rows != NoRows && (!p.Staging || rows != QuestionRows) {
		return 0
	}
	least := math.MaxInt
	for i := range p.Slots {
		least = min(least, p.Loose(i)) // until some are packed
	}
	return least
}

// plain tells whether s holds the tokens that it was fed and nothing else.
func (s *Sequence) plain() bool { return s.evicted == 0 && s.position <= s.plan.Plain() }

// Copy is a sequence that holds what s held after its first n tokens, in memory
// of exactly that size. It is never fed: others Adopt from it. n is the number of
// tokens that s was fed, or fewer up to Plan.Plain; what a staging sequence observed
// is not copied then.
func (s *Sequence) Copy(n int) (*Sequence, error) {
	c, err := NewSequence(s.CopyPlan(s.plan, n), Handlers{Each: s.handlers.Each}, s.Scratch)
	if err != nil {
		return nil, err
	}
	c.Adopt(s, n)
	return c, nil
}

// CopyPlan is the plan of such a copy, of s or of a sequence with plan p of which s is the ledger.
func (s *Sequence) CopyPlan(p Plan, n int) Plan {
	heads := len(p.Slots)
	if s.plain() { // tokens, and neither statistics nor states
		p = Plan{Spec: Spec{Policy: Full}, Shape: p.Shape, Keep: n}
	}
	p.Slots, p.Groups, p.Bytes = make([]int, heads), make([]int, heads), 0
	for i := range p.Slots {
		h := &s.heads[i%len(s.heads)] // of a ledger, one may stand for all
		p.Slots[i], p.Groups[i] = h.before(n), h.settled
		p.Bytes += p.bytes(i, p.Slots[i], p.Groups[i])
	}
	return p
}

// Adopt makes s, which was fed nothing yet, hold what from held after its first n
// tokens: see Copy for which n. Either n is Plain in both plans, or the plans are the same.
func (s *Sequence) Adopt(from *Sequence, n int) {
	if s.position != 0 || n > from.position || n < from.position && !from.plain() {
		panic(fmt.Sprintf("cache: %d tokens adopted at %d, of %d", n, s.position, from.position))
	}
	plain := from.plain()
	s.handlers.each(len(s.heads), func(i int) { s.adoptHead(i, from, n, plain) })
	s.position, s.evicted = n, from.evicted
	s.decided(from.chosen)
}

// adoptHead is Adopt for KV head i.
func (s *Sequence) adoptHead(i int, from *Sequence, n int, plain bool) {
	to, h := &s.heads[i], &from.heads[i%len(from.heads)] // of a ledger, one may stand for all
	dim := s.plan.Shape.HeadDim
	to.len = h.before(n)
	to.settled = h.settled
	copy(to.k[:to.loose()*dim], h.k)
	copy(to.v[:to.loose()*dim], h.v)
	copy(to.positions[:to.len], h.positions)
	if plain {
		return
	}
	copy(to.attention[:to.len*s.width], h.attention)
	copy(to.sinks, h.sinks)
	copy(to.groups, h.groups[:h.settled*s.plan.groupWords()])
	copy(to.psi, h.psi[:h.settled*s.plan.psiWords(i)])
	copy(to.channels, h.channels)
	copy(to.queries, h.queries)
	to.turned, to.pruned, to.decided = h.turned, h.pruned, h.decided
	s.states[i].copyFrom(&from.states[i%len(from.states)])
}

// before is how many of a head's tokens are at positions below n.
func (h *head) before(n int) int {
	count := h.len
	for count > 0 && int(h.positions[count-1]) >= n {
		count--
	}
	return count
}
