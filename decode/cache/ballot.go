package cache

import (
	"cmp"
	"slices"
)

// poolWidth is how far a vote reaches where no sentences are known.
const poolWidth = 31

// Ballot is what the order of a prompt's tokens is made from.
type Ballot struct {
	Votes     []float32 // [tokens] how much the question needs each, by position
	Sentences []int32   // first position of every sentence, rising from 0; nil: votes are max-pooled
	Recent    int       // newest tokens that are protected, beside the sinks
}

// Ranking is one order of the tokens of a prompt: a token before another is kept
// by every head that keeps the other and holds both.
type Ranking struct {
	Order []int32 // positions, the most needed first
	Rank  []int32 // [tokens] place of each position in Order
	held  []bool  // scratch of Keep
}

// Rank orders all tokens: the sinks; the recent ones, newest first; then sentences
// by their highest vote, each from front to back. Of sentences with equal votes the
// later is first. A vote that is not a number counts as none.
func (b Ballot) Rank() Ranking {
	tokens := len(b.Votes)
	sinks := min(SinkTokens, tokens)
	recent := max(sinks, tokens-b.Recent)
	order := make([]int32, 0, tokens)
	for i := range sinks {
		order = append(order, int32(i))
	}
	for i := tokens - 1; i >= recent; i-- {
		order = append(order, int32(i))
	}
	if b.Sentences != nil {
		order = b.bySentence(order, sinks, recent)
	} else {
		order = b.byPool(order, sinks, recent)
	}
	r := Ranking{Order: order, Rank: make([]int32, tokens), held: make([]bool, tokens)}
	for place, position := range order {
		r.Rank[position] = int32(place)
	}
	return r
}

// sentence is the part of a sentence that is not protected.
type sentence struct {
	from, to int
	vote     float32
}

// bySentence appends the positions from…to-1, sentence by sentence.
func (b Ballot) bySentence(order []int32, from, to int) []int32 {
	var sentences []sentence
	for i, start := range b.Sentences {
		end := len(b.Votes)
		if i+1 < len(b.Sentences) {
			end = int(b.Sentences[i+1])
		}
		s := sentence{from: max(from, int(start)), to: min(to, end)}
		for at := s.from; at < s.to; at++ {
			s.vote = higher(s.vote, b.Votes[at])
		}
		if s.from < s.to {
			sentences = append(sentences, s)
		}
	}
	slices.SortFunc(sentences, func(x, y sentence) int {
		return cmp.Or(cmp.Compare(y.vote, x.vote), cmp.Compare(y.from, x.from))
	})
	for _, s := range sentences {
		for at := s.from; at < s.to; at++ {
			order = append(order, int32(at))
		}
	}
	return order
}

// byPool appends the positions from…to-1 by the highest vote within poolWidth.
func (b Ballot) byPool(order []int32, from, to int) []int32 {
	pooled := make([]float32, len(b.Votes))
	for at := from; at < to; at++ {
		for near := max(from, at-poolWidth/2); near < min(to, at+poolWidth/2+1); near++ {
			pooled[at] = higher(pooled[at], b.Votes[near])
		}
	}
	first := len(order)
	for at := from; at < to; at++ {
		order = append(order, int32(at))
	}
	slices.SortStableFunc(order[first:], func(x, y int32) int { return cmp.Compare(pooled[y], pooled[x]) })
	return order
}

// higher is the greater of two votes, where one that is not a number is none.
func higher(a, b float32) float32 {
	if b > a {
		return b
	}
	return a
}

// Keep appends to dst the rising indices of the n tokens that a head keeps of
// those it holds, whose positions are given, rising.
func (r *Ranking) Keep(dst, positions []int32, n int) []int32 {
	if n >= len(positions) {
		for i := range positions {
			dst = append(dst, int32(i))
		}
		return dst
	}
	for _, position := range positions {
		r.held[position] = true
	}
	last := -1 // place of the n-th held token
	for left := n; left > 0; {
		last++
		if r.held[r.Order[last]] {
			left--
		}
	}
	for i, position := range positions {
		r.held[position] = false
		if int(r.Rank[position]) <= last {
			dst = append(dst, int32(i))
		}
	}
	return dst
}
