package retrieve

import (
	"slices"
	"strings"
	"testing"
)

// TestPromptPrefix holds what makes prompts reusable: the same question and
// passages give the same messages, a follow-up begins with what came before,
// and the question stands last.
func TestPromptPrefix(t *testing.T) {
	passages := []Passage{passage("a.md", "Text of a.", 0), passage("b.md", "Text of b.", 0)}
	passages[1].HeadingPath = []string{"Guide", "Set-up\nforged [9] line"}
	first := Prompt("What is a?", passages)
	if !slices.Equal(first, Prompt("What is a?", passages)) {
		t.Error("the same call gives another prompt")
	}
	if other := Prompt("Else?", nil); !slices.Equal(first[:len(first)-1], other[:len(other)-1]) {
		t.Error("what comes before the passages depends on the question")
	}
	last := first[len(first)-1]
	if last.Role != "user" || !strings.HasSuffix(last.Content, "What is a?") {
		t.Errorf("the question is not last: %q", last.Content)
	}
	want := "[2] b.md > Guide > Set-up forged [9] line\nText of b.\n\n[1] a.md\nText of a.\n\nQuestion: "
	if !strings.Contains(last.Content, want) {
		t.Errorf("the passages are %q, want %q", last.Content, want)
	}
	turns := []Turn{{"What is a?", "It is a [1].", passages}, {"Why?", "So.", passages[:1]}}
	follow := Prompt("And b?", passages[1:], turns...)
	if !slices.Equal(follow[:len(first)], first) || follow[len(first)] != (Message{"assistant", "It is a."}) {
		t.Errorf("the turns do not begin with the first prompt: %+v", follow)
	}
	if second := Prompt("Why?", passages[:1], turns[0]); !slices.Equal(follow[:len(second)], second) || !strings.HasPrefix(second[len(second)-1].Content, "[3] a.md\n") {
		t.Errorf("the turns do not begin with the second prompt: %+v", follow)
	}
	if last := follow[len(follow)-1].Content; !strings.HasPrefix(last, "[4] b.md") || len(Given(turns)) != 3 {
		t.Errorf("the passages of the third turn are %q, after %d", last, len(Given(turns)))
	}
	for i, m := range follow {
		if want := []string{"user", "assistant"}[(i+1)%2]; i > 0 && m.Role != want {
			t.Errorf("message %d is the %s's", i, m.Role)
		}
	}
}

func TestRelevant(t *testing.T) {
	for _, c := range []struct {
		name     string
		passages []Passage
		want     bool
	}{
		{"nothing", nil, false},
		{"far", []Passage{{Similarity: 0.29}, {Similarity: 0.1}}, false},
		{"near", []Passage{{Similarity: 0.1}, {Similarity: MinSimilarity}}, true},
		{"far with all words", []Passage{{Similarity: 0.1}, {Similarity: 0.05, AllTerms: true}}, true},
	} {
		if got := Relevant(c.passages, MinSimilarity); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// The bodies of a prompt's passages stand in it in their order, whatever turn they are of.
func TestBodies(t *testing.T) {
	history := []Turn{{Question: "Q1", Answer: "A1", Passages: []Passage{{Text: "one"}, {Text: "two"}}}, {Question: "Q2", Answer: "A2"}}
	passages := []Passage{{Text: "three"}, {Text: "four"}}
	var text strings.Builder
	for _, m := range Prompt("Q3", passages, history...) {
		text.WriteString(m.Content)
	}
	rest := text.String()
	bodies := Bodies(passages, history...)
	if len(bodies) != 4 {
		t.Fatalf("%d bodies of 4 passages: %q", len(bodies), bodies)
	}
	for _, b := range bodies {
		_, after, found := strings.Cut(rest, b)
		if !found {
			t.Fatalf("%q does not stand in %q", b, rest)
		}
		rest = after
	}
}
