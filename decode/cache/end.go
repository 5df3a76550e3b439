package cache

// atEnd lets a policy that asks no question decide at the end of a prompt, for caches
// whose prompts are staged for another reason: see Spec.Stages.
type atEnd struct{ Policy }

// ChooserOf is what decides about a prompt that was staged.
func ChooserOf(s Spec) Chooser {
	policy := NewPolicy(s)
	if c, ok := policy.(Chooser); ok {
		return c
	}
	return atEnd{policy}
}

// Score is never asked: a sequence has the policy itself.
func (p atEnd) Score(scores []float32, s Statistics) { p.Policy.(Scorer).Score(scores, s) }

// Choose lets the policy decide as if the prompt had been one block.
func (p atEnd) Choose(s Staged) Choice {
	c := Choice{Kept: make([][]int32, len(s.Positions)), Scores: make([][]float32, len(s.Positions))}
	for i := range s.Positions {
		head := i % s.KVHeads
		if head > 0 && p.Grain() == PerLayer {
			c.Kept[i] = c.Kept[i-head]
		} else {
			c.Kept[i] = p.decide(s, i)
		}
		for _, at := range c.Kept[i] {
			score := float32(0)
			if len(s.Attention[i]) > 0 {
				score = s.Attention[i][at]
			}
			c.Scores[i] = append(c.Scores[i], score)
		}
	}
	return c
}

// decide is which tokens KV head i, or its layer, keeps.
func (p atEnd) decide(s Staged, i int) []int32 {
	tokens := len(s.Positions[i])
	about := Statistics{Layer: i / s.KVHeads, Head: i % s.KVHeads, Positions: s.Positions[i], Keep: s.Keep[i], Coming: tokens}
	if tokens > 0 {
		about.Position = int(s.Positions[i][tokens-1]) + 1
		about.Chosen = about.Position
	}
	last := i
	if p.Grain() == PerLayer {
		last = i + s.KVHeads - 1
	}
	if len(s.Attention[i]) > 0 {
		about.Attention = make([]float32, tokens)
		for head := i; head <= last; head++ {
			for at, x := range s.Attention[head] {
				about.Attention[at] += x
			}
		}
	}
	if d, ok := p.Policy.(Decider); ok && tokens > s.Keep[i] {
		return d.Decide(nil, about)
	}
	scores := make([]float32, tokens)
	if scorer, ok := p.Policy.(Scorer); ok {
		scorer.Score(scores, about)
	}
	return Keep(nil, scores, s.Keep[i], make([]int32, tokens))
}
