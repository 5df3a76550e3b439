package retrieve

import (
	"slices"
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
	b[0].ID, b[1].ID = 10, 11
	near := func(p Passage) (n []Passage) {
		for _, c := range a {
			if p.DocumentID == c.DocumentID && c.ordinal != p.ordinal {
				n = append(n, c)
			}
		}
		return n
	}
	for _, c := range []struct {
		name  string
		found []Passage
		limit int
		most  int
		want  []string
	}{
		{"apart", []Passage{a[0], b[0], a[2]}, 5, 1, []string{"One two.", "Whales sing.", "Five six seven"}},
		{"the next, over a space", []Passage{a[0], b[1]}, 5, 4, []string{"One two.\nThree four.", "Cats sleep."}},
		{"the one after first, then the one before", []Passage{a[1]}, 5, 6, []string{"Three four.\n\nFive six seven"}},
		{"both, over an empty line", []Passage{a[1]}, 5, 7, []string{"One two.\nThree four.\n\nFive six seven"}},
		{"before, where the next is too much", []Passage{a[1]}, 5, 4, []string{"One two.\nThree four."}},
		{"all, sharing a word", []Passage{a[2]}, 5, 99, []string{text[:8] + "\n" + text[9:]}},
		{"what is in a place", []Passage{a[0], a[1], b[0]}, 5, 4, []string{"One two.\nThree four.", "Whales sing."}},
		{"what a better place has", []Passage{a[0], a[2]}, 5, 4, []string{"One two.\nThree four.", "Five six seven"}},
		{"no more than asked for", []Passage{a[0], b[0], b[1]}, 2, 1, []string{"One two.", "Whales sing."}},
		{"the same again", []Passage{a[0], a[0]}, 5, 1, []string{"One two."}},
	} {
		around := map[int64][]Passage{}
		for _, p := range c.found {
			around[p.ID] = near(p)
		}
		got := places(c.found, around, c.limit, c.most)
		var texts []string
		for _, p := range got {
			texts = append(texts, p.Text)
			if p.End-p.Start != len(p.Text) || p.Tokens < len(strings.Fields(p.Text)) {
				t.Errorf("%s: %q is %d…%d, %d tokens", c.name, p.Text, p.Start, p.End, p.Tokens)
			}
		}
		if !slices.Equal(texts, c.want) {
			t.Errorf("%s: places %q, want %q", c.name, texts, c.want)
		}
	}
}

// A copy of a section elsewhere is no second place, though another of its chunks was found there.
func TestPlacesRepeat(t *testing.T) {
	const text = "Alpha beta gamma delta. Epsilon zeta eta theta."
	var found []Passage
	around := map[int64][]Passage{}
	for i, document := range []string{"a", "b"} {
		first, second := chunk(document, text, 0, "Alpha", "delta."), chunk(document, text, 1, "Epsilon", "theta.")
		first.ID, second.ID = int64(2*i), int64(2*i+1)
		found = append(found, []Passage{first, second}[i])
		around[first.ID], around[second.ID] = []Passage{second}, []Passage{first}
	}
	if got := places(found, around, 5, 100); len(got) != 1 || got[0].DocumentID != "a" {
		t.Errorf("%d places, want the first alone", len(got))
	}
}
