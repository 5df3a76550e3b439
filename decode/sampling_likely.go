package decode

import (
	"cmp"
	"math"
	"slices"

	"lessrag/decode/model"
)

// likeliest is how many tokens Choose wants, where it draws or changes logits.
const likeliest = 64

// Wants is how many of the likeliest tokens Choose wants, and the temperature of Likely.Sum.
func (s *Sampler) Wants() (tokens int, heat float32) {
	switch {
	case s.sampling.Temperature > 0:
		return likeliest, s.sampling.Temperature
	case s.penalises():
		return likeliest, 1
	}
	return 1, 1
}

// Choose is Next where only the likeliest tokens are known. It tells whether they settle what Next would
// choose from all logits: if they do not, nothing has happened yet.
func (s *Sampler) Choose(l *model.Likely) (token int32, settled bool, err error) {
	if len(l.Tokens) == 0 || math.IsNaN(l.Sum) || math.IsInf(float64(l.Tokens[0].Logit), 0) {
		return 0, false, ErrNotFinite
	}
	tokens := slices.Clone(l.Tokens)
	others := others{most: float32(math.Inf(-1))}
	if len(tokens) < l.Vocab {
		others.most = tokens[len(tokens)-1].Logit
	}
	if s.penalises() {
		others.recent = s.penaliseTokens(tokens)
		if s.sampling.RepeatPenalty < 1 && others.recent > 0 || tokens[0].Logit <= others.most {
			return 0, false, nil
		}
	}
	token = tokens[0].ID
	if s.sampling.Temperature > 0 {
		if token, settled = s.drawOf(tokens, l, others); !settled {
			return 0, false, nil
		}
	}
	s.remember(token)
	return token, true, nil
}

// others are the tokens that are not among the likeliest.
type others struct {
	most   float32 // none has a higher logit
	recent int     // so many of them become less likely
}

// penaliseTokens is penalise, and orders the tokens anew. It tells how many recent tokens are not among them.
func (s *Sampler) penaliseTokens(tokens []model.Token) (missing int) {
	for i, token := range s.recent {
		if slices.Contains(s.recent[:i], token) {
			continue
		}
		at := slices.IndexFunc(tokens, func(t model.Token) bool { return t.ID == token })
		if at < 0 {
			missing++
			continue
		}
		tokens[at].Logit = s.penalised(tokens[at].Logit)
	}
	slices.SortFunc(tokens, func(a, b model.Token) int {
		return cmp.Or(cmp.Compare(b.Logit, a.Logit), cmp.Compare(a.ID, b.ID))
	})
	return missing
}

// drawOf is draw from tokens, the likeliest first, where what the others weigh makes no difference.
func (s *Sampler) drawOf(tokens []model.Token, l *model.Likely, others others) (token int32, settled bool) {
	most := tokens[0].Logit
	lowest := s.lowest(most)
	var known, before float64 // what the tokens weigh, and weighed before recent ones became less likely
	s.candidates = s.candidates[:0]
	slices.SortFunc(tokens, func(a, b model.Token) int { return cmp.Compare(a.ID, b.ID) }) // as draw has them
	for _, t := range tokens {
		if t.Logit < lowest {
			continue
		}
		weight := s.weight(t.Logit, most)
		known += weight
		s.candidates = append(s.candidates, candidate{t.ID, weight})
	}
	if others.most < lowest {
		return s.pick(known), true // no other token counts
	}
	for _, t := range l.Tokens {
		before += s.weight(t.Logit, most)
	}
	edge := s.weight(others.most, most) // none of the others weighs more
	sum := l.Sum * s.weight(l.Tokens[0].Logit, most)
	least := known + max(0, sum*(1-model.LikelyError)-before-float64(others.recent)*edge)
	largest := known + max(0, sum*(1+model.LikelyError)-before)
	if !s.settles(edge, least, largest) {
		return 0, false
	}
	return s.pick(least), true
}

// settles tells whether the candidates that pick leaves are the same whatever all tokens weigh between least
// and largest, and whether each of them weighs more than edge.
func (s *Sampler) settles(edge, least, largest float64) bool {
	sorted := slices.SortedFunc(slices.Values(s.candidates), func(a, b candidate) int { return cmp.Compare(b.weight, a.weight) })
	k, p := s.sampling.TopK, float64(s.sampling.TopP)
	if k > 0 {
		return k < len(sorted) && sorted[k-1].weight > edge // of these, all is known
	}
	if p == 0 || p >= 1 {
		return s.sampling.MinP > 0 && float64(s.sampling.MinP) > edge
	}
	taken, reached := 0, 0.0
	for ; taken < len(sorted) && reached < p*least; taken++ {
		reached += sorted[taken].weight
	}
	return reached >= p*largest && sorted[taken-1].weight > edge
}
