package retrieve

import (
	"strings"
	"testing"
)

// chunk is one of a document's, in its text: the words from first to last.
func chunk(document, text string, ordinal int, first, last string, path ...string) Passage {
	start := strings.Index(text, first)
	end := start + strings.Index(text[start:], last) + len(last)
	return Passage{ID: int64(ordinal), DocumentID: document, Text: text[start:end], Start: start, End: end,
		HeadingPath: path, Tokens: len(strings.Fields(text[start:end])), ordinal: ordinal, last: ordinal}
}

func TestPlaces(t *testing.T) {
	const text = "One two. Three four.\n\nFive six seven eight nine"
	a := []Passage{chunk("a", text, 0, "One", "two.", "Top"), chunk("a", text, 1, "Three", "four.", "Top"),
		chunk("a", text, 2, "Five", "seven", "Top"), chunk("a", text, 3, "seven", "nine", "Top")}
	b := []Passage{chunk("b", "Whales sing.", 0, "W", "."), chunk("c", "Cats sleep.", 1, "C", ".")}
	for _, c := range []struct {
		name  string
		found []Passage
		limit int
		want  []string
	}{
		{"apart", []Passage{a[0], b[0], a[2]}, 5, []string{"One two.", "Whales sing.", "Five six seven"}},
		{"next, over a space", []Passage{a[0], b[1], a[1]}, 5, []string{"One two.\nThree four.", "Cats sleep."}},
		{"before, over an empty line", []Passage{a[2], a[1]}, 5, []string{"Three four.\n\nFive six seven"}},
		{"sharing a word", []Passage{a[3], a[2]}, 5, []string{"Five six seven eight nine"}},
		{"a bridge", []Passage{a[0], a[2], a[1]}, 5, []string{"One two.\nThree four.", "Five six seven"}},
		{"the first take in what comes after the last", []Passage{a[0], b[0], a[1]}, 1, []string{"One two.\nThree four."}},
		{"the same again", []Passage{a[0], a[0]}, 5, []string{"One two."}},
	} {
		got := places(c.found, c.limit, mostJoined)
		if len(got) != len(c.want) {
			t.Errorf("%s: %d places, want %d", c.name, len(got), len(c.want))
			continue
		}
		for i, p := range got {
			if p.Text != c.want[i] || p.ID != c.found[i].ID && i == 0 || p.End-p.Start != len(p.Text) || p.Tokens < len(strings.Fields(p.Text)) {
				t.Errorf("%s: place %d is %q (%d…%d, %d tokens), want %q", c.name, i, p.Text, p.Start, p.End, p.Tokens, c.want[i])
			}
		}
	}
	other := a[1]
	other.HeadingPath = []string{"Top", "Below"}
	if got := places([]Passage{a[0], other}, 5, mostJoined); len(got) != 2 {
		t.Errorf("neighbours under different headings: %d of 2 stay", len(got))
	}
	if got := places([]Passage{a[0], a[1]}, 5, a[0].Tokens+a[1].Tokens-1); len(got) != 2 {
		t.Errorf("neighbours that are more than is asked for: %d of 2 stay", len(got))
	}
	large, next := a[0], a[1]
	large.Tokens = mostJoined
	if got := places([]Passage{large, next}, 5, mostJoined); len(got) != 2 {
		t.Errorf("neighbours that are too much together: %d of 2 stay", len(got))
	}
}
