package retrieve

import (
	"math"
	"math/bits"
)

// evidence is the passages of one answer, indexed by their content words.
type evidence struct {
	passages  []Passage
	sentences []evidenceSentence
	byTerm    map[string][]int32 // sentences that hold the term, ascending
	holders   map[string]int     // passages that hold the term
}

// evidenceSentence is one sentence of a passage.
type evidenceSentence struct {
	passage int
	span    // bytes in the passage's text
}

// support is how well one passage backs a sentence.
type support struct {
	share float64 // of the sentence's content words, by weight, that the quote holds: 0…1
	quote span    // bytes in the passage's text
}

// maxTerms is how many different content words of a sentence are compared.
const maxTerms = 64

// numberWeight is how much more a number says than a word.
const numberWeight = 2

func newEvidence(passages []Passage) *evidence {
	e := &evidence{passages: passages, byTerm: map[string][]int32{}, holders: map[string]int{}}
	for i, p := range passages {
		seen := map[string]bool{}
		for _, s := range sentences(p.Text) {
			at := int32(len(e.sentences))
			e.sentences = append(e.sentences, evidenceSentence{i, s})
			for _, t := range terms(p.Text[s.start:s.end]) {
				if list := e.byTerm[t]; len(list) == 0 || list[len(list)-1] != at {
					e.byTerm[t] = append(list, at)
				}
				if !seen[t] {
					seen[t] = true
					e.holders[t]++
				}
			}
		}
	}
	return e
}

// weigh is a term's weight: the rarer among the passages, the more it says
// (inverse document frequency). One that no passage holds weighs most.
func (e *evidence) weigh(term string) float64 {
	w := math.Log(1 + float64(len(e.passages))/max(float64(e.holders[term]), 0.5))
	if isNumber(term) {
		w *= numberWeight
	}
	return w
}

// supports tells how well each passage backs a sentence. The share is that of
// the best sentence of the passage, or of the best two neighbours where both
// are needed. A passage that lacks a number of the sentence does not back it,
// nor does one that has a single word of several.
func (e *evidence) supports(sentence string) []support {
	weights, masks, numbers := e.match(terms(sentence))
	all := make([]support, len(e.passages))
	if len(weights) == 0 {
		return all
	}
	total := weigh(weights, math.MaxUint64>>(64-len(weights)))
	held := make([]uint64, len(e.passages))
	for i, m := range masks {
		s := e.sentences[i]
		held[s.passage] |= m
		best := &all[s.passage]
		best.raise(weigh(weights, m)/total, s.span)
		if i > 0 && e.sentences[i-1].passage == s.passage {
			both := weigh(weights, m|masks[i-1]) / total
			if both > best.share+0.1 {
				best.raise(both, span{e.sentences[i-1].start, s.end})
			}
		}
	}
	for i := range all {
		if held[i]&numbers != numbers || bits.OnesCount64(held[i]) < min(2, len(weights)) {
			all[i] = support{}
		}
	}
	return all
}

// match returns the weights of the different terms, and as bits in their
// order: the terms of every sentence of the passages, and those that are numbers.
func (e *evidence) match(all []string) (weights []float64, masks []uint64, numbers uint64) {
	masks = make([]uint64, len(e.sentences))
	seen := map[string]bool{}
	for _, t := range all {
		if seen[t] || len(weights) == maxTerms {
			continue
		}
		seen[t] = true
		bit := uint64(1) << len(weights)
		weights = append(weights, e.weigh(t))
		if isNumber(t) {
			numbers |= bit
		}
		for _, s := range e.byTerm[t] {
			masks[s] |= bit
		}
	}
	return weights, masks, numbers
}

// weigh adds up the weights of a mask's bits.
func weigh(weights []float64, mask uint64) float64 {
	sum := 0.0
	for ; mask != 0; mask &= mask - 1 {
		sum += weights[bits.TrailingZeros64(mask)]
	}
	return sum
}

func (s *support) raise(share float64, quote span) {
	if share > s.share {
		s.share, s.quote = share, quote
	}
}
