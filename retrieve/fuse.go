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

// mostJoined is the tokens that a passage joined of neighbours may have, where Query.Joined says nothing else.
const mostJoined = 600

// places returns the first limit different places that passages, best first,
// are found at. Neighbours in one section become one passage, at the place of
// the better: what answers a question often reaches over the end of a passage,
// and five pieces of one section tell less than five places. It has at most that many
// tokens. One that repeats another in nearly the same words is dropped.
func places(passages []Passage, limit, most int) []Passage {
	return gather(passages, limit, func(kept *Passage, p Passage) bool { return join(kept, p, most) })
}

// distinct returns the passages that repeat none before them: by covering half
// of the same span of a document, or by saying the same in nearly the same
// words anywhere.
func distinct(passages []Passage) []Passage {
	return gather(passages, len(passages), func(kept *Passage, p Passage) bool { return overlap(*kept, p) >= repeatedSpan })
}

// gather keeps the first limit passages, but those that one kept before takes
// in, and those that repeat one.
func gather(passages []Passage, limit int, takes func(kept *Passage, p Passage) bool) []Passage {
	kept := make([]Passage, 0, min(limit, len(passages)))
	var words []wordSet
next:
	for _, p := range passages {
		w := newWordSet(p.Text)
		for i := range kept {
			if w.jaccard(words[i]) >= repeatedWords {
				continue next
			}
			if takes(&kept[i], p) {
				words[i] = newWordSet(kept[i].Text)
				continue next
			}
		}
		if len(kept) < limit {
			kept, words = append(kept, p), append(words, w)
		}
	}
	return kept
}

// join takes a neighbour in the same section into a passage, and tells whether
// it is part of it now. The text between them was only space.
func join(to *Passage, p Passage, most int) bool {
	if to.DocumentID != p.DocumentID || !slices.Equal(to.HeadingPath, p.HeadingPath) {
		return false
	}
	if p.Start >= to.Start && p.End <= to.End {
		return true
	}
	first, second := *to, p
	if p.ordinal < to.ordinal {
		first, second = p, *to
	}
	if second.ordinal > first.last+1 || to.Tokens+p.Tokens > most {
		return false
	}
	text := first.Text
	if gap := second.Start - first.End; gap > 0 {
		text += strings.Repeat("\n", gap)
	}
	text += second.Text[max(first.End-second.Start, 0):]
	to.Text, to.Start, to.End, to.Tokens = text, first.Start, second.End, to.Tokens+p.Tokens
	to.ordinal, to.last = first.ordinal, second.last
	to.AllTerms = to.AllTerms || p.AllTerms
	to.Similarity = max(to.Similarity, p.Similarity)
	to.Page = first.Page
	return true
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
