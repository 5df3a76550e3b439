package retrieve

import (
	"slices"
	"strings"
)

// TokenCounter counts a text's tokens as the reader will see it.
type TokenCounter interface{ Count(text string) int }

// Pack keeps, in order, the passages that fit whole into budget tokens,
// counted as Prompt writes them (marker and source line included). One that
// repeats another is left out, and so is one that does not fit, though a
// shorter one after it may. dropped counts all that were left out.
func Pack(passages []Passage, t TokenCounter, budget int) (kept []Passage, dropped int) {
	for _, p := range distinct(passages) {
		if n := t.Count(block(len(kept)+1, p)); n <= budget {
			budget -= n
			kept = append(kept, p)
		}
	}
	return kept, len(passages) - len(kept)
}

// Cost is the tokens that a passage takes in a prompt.
func Cost(p Passage, t TokenCounter) int { return t.Count(block(1, p)) }

// Told tells whether the passages given hold what a question is about: the first that was found for it, and
// every word of it that means something. Then it needs no others.
func Told(given, found []Passage, question string) bool {
	if len(found) == 0 || len(Beside(given, found[:1])) > 0 {
		return false
	}
	held := map[string]bool{}
	for _, p := range given {
		for _, t := range terms(p.Text + " " + strings.Join(p.HeadingPath, " ")) {
			held[t] = true
		}
	}
	return !slices.ContainsFunc(terms(question), func(t string) bool { return !held[t] })
}

// Beside returns the passages that tell more than those given: none that one
// of them covers half of, or that repeats one.
func Beside(given, found []Passage) []Passage {
	fresh := distinct(append(slices.Clone(given), found...))
	return fresh[min(len(distinct(given)), len(fresh)):]
}
