package retrieve

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Message is one turn for the reader's chat template.
type Message struct {
	Role    string `json:"role"` // system, user or assistant
	Content string `json:"content"`
}

// Turn is an earlier exchange of the conversation, with the passages that its
// prompt added.
type Turn struct {
	Question, Answer string
	Passages         []Passage
}

// Given are the passages of some turns, in the order of their numbers.
func Given(turns []Turn) []Passage {
	var all []Passage
	for _, t := range turns {
		all = append(all, t.Passages...)
	}
	return all
}

const system = "Answer the question in one to three sentences, using only the numbered passages. Cite the passages like [1]."

// Stops are texts that a reader writes only when it goes on with the prompt in
// place of ending its answer: the next passage, or the next question.
var Stops = []string{"\n[", "\nQuestion:"}

// Prompt asks the reader to answer question from the passages. The system
// message never changes, earlier turns come next exactly as they were asked,
// and the passages stand before the question: the prompt of a conversation
// begins with the prompt of its turn before, and what was read then need not
// be read again. Passages are numbered through all turns, so those of this one
// go on after Given.
//
// The best passage stands last, next to the question: there a small reader
// uses it most, and a cache that keeps recent tokens keeps it. Of 24 questions
// about the handbook, SmolLM2-135M answered 15 with four or six passages in
// this order, 12 with four and 8 with six in the other;
// testdata/measure_prompts.py measures it.
func Prompt(question string, passages []Passage, history ...Turn) []Message {
	messages := []Message{{"system", system}}
	given := 0
	for _, t := range history {
		messages = append(messages, Message{"user", asking(t.Question, t.Passages, given)},
			Message{"assistant", withoutMarkers(t.Answer)})
		given += len(t.Passages)
	}
	return append(messages, Message{"user", asking(question, passages, given)})
}

var spacedMarker = regexp.MustCompile(`(?:^|\s+)\[\d+(?:\s*[,;]\s*\d+)*\]`)

// withoutMarkers is an answer without its citations.
func withoutMarkers(answer string) string {
	return strings.TrimSpace(spacedMarker.ReplaceAllString(answer, ""))
}

// asking is what a user says: passages, numbered after those given, and a question.
func asking(question string, passages []Passage, given int) string {
	var b strings.Builder
	for i, p := range slices.Backward(passages) {
		b.WriteString(block(given+i+1, p))
	}
	b.WriteString("Question: " + question)
	return b.String()
}

// block is one passage as the reader sees it.
func block(n int, p Passage) string { return fmt.Sprintf("[%d]%s", n, body(p)) }

// Bodies are the passages as the reader sees them behind their numbers, those of earlier
// turns first, in the order in which Prompt writes them: the same text for a passage in every prompt.
func Bodies(passages []Passage, history ...Turn) []string {
	var bodies []string
	for _, t := range append(slices.Clone(history), Turn{Passages: passages}) {
		for _, p := range slices.Backward(t.Passages) {
			bodies = append(bodies, body(p))
		}
	}
	return bodies
}

// Head is what prompts begin with up to the first passage's number, and a number.
func Head() []Message { return []Message{{"system", system}, {"user", FirstNumber}} }

// FirstNumber is where Head ends: the reader reads a passage behind it.
const FirstNumber = "[1]"

func body(p Passage) string {
	source := strings.Join(append([]string{path.Base(p.Document.Name)}, p.HeadingPath...), " > ")
	source = strings.Join(strings.Fields(source), " ") // one line, whatever a name holds
	return fmt.Sprintf(" %s\n%s\n\n", source, strings.TrimSpace(p.Text))
}
