package retrieve

import (
	"hash/maphash"
	"strings"
	"unicode"
)

// repeated is the share of words, or of the span, that makes two passages one.
const (
	repeatedWords = 0.9
	repeatedSpan  = 0.5
)

// distinct returns the first limit passages that repeat none before them: by
// covering half of the same span of a document, or by saying the same in
// nearly the same words anywhere.
func distinct(passages []Passage, limit int) []Passage {
	kept := make([]Passage, 0, min(limit, len(passages)))
	var words []wordSet
next:
	for _, p := range passages {
		if len(kept) == limit {
			break
		}
		w := newWordSet(p.Text)
		for i := range kept {
			if overlap(kept[i], p) >= repeatedSpan || w.jaccard(words[i]) >= repeatedWords {
				continue next
			}
		}
		kept, words = append(kept, p), append(words, w)
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
