package cache

import (
	"math"
	"slices"
)

// vote is our own question-aware policy. A few KV heads, those that were seen to
// look answers up, vote on which tokens the question needs; whole sentences win or
// lose together; and every head keeps the first so many tokens of that one order,
// the heavier heads more of them. For the same number of slots the heads that
// retrieve see nearly everything, and those that do not, little. Without head
// weights all heads vote and keep the same number.
type vote struct{}

const (
	voteRecent        = 32 // newest tokens that are always kept, once the prompt has ended
	voteRecentChunked = 16 // and while it has not
	voteLeast         = SinkTokens + voteRecent
	voteNew           = 4 // a head keeps a quarter of its budget for what came after the choice
)

func (vote) Grain() Grain          { return PerHead }
func (vote) Minimum() int          { return voteLeast + 1 }
func (vote) Observes() Observation { return Observation{Rows: QuestionRows, Reduce: Max} }

// Score protects the newest of the tokens that came after the choice; the others
// go in the order of the choice, the tokens without a place in it first.
func (vote) Score(scores []float32, s Statistics) {
	copy(scores, s.Attention)
	for i := max(0, len(scores)-max(voteRecent, s.Keep/voteNew)); i < len(scores); i++ {
		if int(s.Positions[i]) >= s.Chosen {
			scores[i] = float32(math.Inf(1))
		}
	}
}

// Choose makes one order of all tokens and cuts it for every KV head. Between the
// chunks of a prompt every head, whatever its weight, leaves a quarter of the
// staging sequence to the next one.
func (vote) Choose(s Staged) Choice {
	tokens, heads, keep := 0, len(s.Positions), 0
	for i, positions := range s.Positions {
		if n := len(positions); n > 0 {
			tokens = max(tokens, int(positions[n-1])+1)
		}
		keep += s.Keep[i]
	}
	keep /= max(1, heads)
	ballot := Ballot{Votes: make([]float32, tokens), Sentences: starts(s.Sentences, tokens), Recent: voteRecentChunked}
	most := min(tokens, s.Slots*3/4)
	if s.End {
		ballot.Recent = voteRecent
		most = max(keep, min(tokens, s.Slots)+keep/voteNew)
	}
	for _, head := range voters(s.Weights, heads) {
		tally(ballot.Votes, s.Attention[head], s.Positions[head])
	}
	ranking := ballot.Rank()

	c := Choice{Kept: make([][]int32, heads), Scores: make([][]float32, heads),
		Keep: voteBudgets(keep, most, heads, s.Weights)}
	for i, positions := range s.Positions {
		c.Kept[i] = ranking.Keep(make([]int32, 0, min(len(positions), c.Keep[i])), positions, c.Keep[i])
		c.Scores[i] = make([]float32, len(c.Kept[i]))
		for j, at := range c.Kept[i] {
			c.Scores[i][j] = float32(tokens - int(ranking.Rank[positions[at]]))
		}
	}
	return c
}

// starts turns the ends of sentences into their first positions; nil stays nil.
func starts(ends []bool, tokens int) []int32 {
	if ends == nil {
		return nil
	}
	first := slices.Grow([]int32(nil), tokens/16)
	for position := range tokens {
		if position == 0 || position <= len(ends) && ends[position-1] {
			first = append(first, int32(position))
		}
	}
	return first
}
