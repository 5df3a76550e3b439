package retrieve

import (
	"hash/maphash"
	"slices"
	"strings"
	"unicode"
)

// repeated is the share of words, or of the span, that makes two passages one.
const (
	repeatedWords = 0.9
	repeatedSpan  = 0.5
)

// places returns the first limit different places that chunks, best first, are found at: each the best chunk
// there and what is around it in its section, up to most tokens. What answers a question often reaches over the end of
// a chunk or stands in the next, and five pieces of one section tell less than five places. One that
// repeats another in nearly the same words is dropped.
func places(found []Passage, around map[int64][]Passage, limit, most int) []Passage {
	kept := make([]Passage, 0, min(limit, len(found)))
	var cores, wholes []wordSet // of what was found, and of what was made of it
next:
	for _, p := range found {
		for i := range kept {
			if kept[i].takes(p) {
				continue next
			}
		}
		core := newWordSet(p.Text)
		if len(kept) == limit || core.repeats(cores) {
			continue
		}
		p.widen(around[p.ID], kept, most)
		whole := newWordSet(p.Text)
		if whole.repeats(wholes) {
			continue
		}
		kept, cores, wholes = append(kept, p), append(cores, core), append(wholes, whole)
	}
	return kept
}

// distinct returns the passages that repeat none before them: by covering half
// of the same span of a document, or by saying the same in nearly the same
// words anywhere.
func distinct(passages []Passage) []Passage {
	kept := make([]Passage, 0, len(passages))
	var said []wordSet
	for _, p := range passages {
		w := newWordSet(p.Text)
		if w.repeats(said) || slices.ContainsFunc(kept, func(k Passage) bool { return overlap(k, p) >= repeatedSpan }) {
			continue
		}
		kept, said = append(kept, p), append(said, w)
	}
	return kept
}

// overlap is the common span of two passages as a share of the shorter one.
func overlap(a, b Passage) float64 {
	common := min(a.End, b.End) - max(a.Start, b.Start)
	if a.DocumentID != b.DocumentID || common <= 0 {
		return 0
	}
	return float64(common) / float64(min(a.End-a.Start, b.End-b.Start))
}

// wordSet holds the hashes of a text's different words.
type wordSet map[uint64]struct{}

var seed = maphash.MakeSeed()

func newWordSet(text string) wordSet {
	set := wordSet{}
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), notWord) {
		set[maphash.String(seed, word)] = struct{}{}
	}
	return set
}

func notWord(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) }

// repeats tells whether any of others is nearly the same set.
func (a wordSet) repeats(others []wordSet) bool {
	return slices.ContainsFunc(others, func(b wordSet) bool { return a.jaccard(b) >= repeatedWords })
}

// jaccard is the words that both have as a share of those that either has.
// Texts without words have nothing in common.
func (a wordSet) jaccard(b wordSet) float64 {
	if len(a) > len(b) {
		a, b = b, a
	}
	common := 0
	for w := range a {
		if _, ok := b[w]; ok {
			common++
		}
	}
	if common == 0 {
		return 0
	}
	return float64(common) / float64(len(a)+len(b)-common)
}
