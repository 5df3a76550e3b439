package retrieve

import (
	"slices"
	"strings"
)

// pointers are words that stand for something said before.
var pointers = wordsOf(`it its itself they them their theirs these those he him his she her hers one ones former latter same such both neither another else instead`)

// continuations begin a question that goes on from another.
var continuations = wordsOf(`and but so or also then really why`)

func wordsOf(list string) map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(list) {
		set[word] = true
	}
	return set
}

// FollowsUp tells whether a question cannot be understood without the turn
// before it: by words that point back, by how it begins, or because there is
// hardly a word in it that means something. It errs on the side of yes, which
// costs a search for more words than are needed. The words are English.
func FollowsUp(question string) bool {
	w := words(question)
	if len(terms(question)) < 2 {
		return true
	}
	if continuations[w[0]] && !(w[0] == "why" && len(w) > 3) || len(w) > 1 && (w[0] == "what" || w[0] == "how") && w[1] == "about" {
		return true
	}
	for i, word := range w {
		switch {
		case pointers[word]:
			return true
		case word == "this" || word == "that": // not before a noun that says what: "this directory" is still unclear, "say that the cache" is not
			if i < 3 || i == len(w)-1 {
				return true
			}
		}
	}
	return false
}

// Joined is the question before a follow-up, and then itself.
func Joined(before, question string) string { return strings.TrimSpace(before + " " + question) }

// RewriteStops end the wording of a question: see Rewriting.
var RewriteStops = []string{"\n"}

// maxRecalled is how much of the answer before is shown for a rewriting, in bytes.
const maxRecalled = 400

// Rewriting asks a model to word a follow-up question so that it can be
// understood alone.
func Rewriting(last Turn, question string) []Message {
	ask := func(q, a, follow string) string {
		return "Question: " + q + "\nAnswer: " + a + "\nFollow-up: " + follow + "\nReworded follow-up:"
	}
	answer := strings.Join(strings.Fields(withoutMarkers(last.Answer)), " ")
	if len(answer) > maxRecalled {
		answer = strings.ToValidUTF8(answer[:maxRecalled], "")
	}
	return []Message{
		{"system", "Reword the follow-up question so that it can be understood alone. Write one question and nothing else."},
		{"user", ask("How high is the tower?", "The tower of Brell is 90 metres high.", "And when was it built?")},
		{"assistant", "When was the tower of Brell built?"},
		{"user", ask("Which port does the backup use?", "The backup uses port 8873.", "Can I change that?")},
		{"assistant", "Can I change the port that the backup uses?"},
		{"user", ask(last.Question, answer, question)},
	}
}

// Reworded checks a model's wording of a follow-up question: one short
// question that keeps what the follow-up says, takes something from the turn
// before, and brings nothing in. It is "" for a wording that does not.
func Reworded(last Turn, question, wording string) string {
	wording = strings.Join(strings.Fields(wording), " ")
	before, own := terms(last.Question+" "+last.Answer), terms(question)
	kept, recalled := 0, false
	for _, t := range own {
		if slices.Contains(terms(wording), t) {
			kept++
		}
	}
	for _, t := range terms(wording) {
		switch {
		case slices.Contains(own, t):
		case slices.Contains(before, t):
			recalled = true
		default:
			return ""
		}
	}
	if kept < len(own) || !recalled || !strings.HasSuffix(wording, "?") || len(wording) > 2*len(question)+maxRecalled {
		return ""
	}
	return wording
}
