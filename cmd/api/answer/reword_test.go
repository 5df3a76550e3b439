package answer

import (
	"strings"
	"testing"

	"lessrag/retrieve"
)

// TestQuery: a first question may get the longest places; a later turn what it may add, and the question before where
// it points back at that.
func TestQuery(t *testing.T) {
	first := plan{text: "How tall is the tower?", collection: "c", limit: 5, context: 1400}
	later := first
	later.turns = []retrieve.Turn{{Question: "Who built the bridge?"}, {Question: "Where does the tower stand?"}}
	back, long, small := later, later, later
	back.text = "And when was it built?"
	long.text = "And it? " + strings.Repeat("x", MaxQuestionBytes-len("And it? "))
	small.context = 1
	for _, c := range []struct {
		name     string
		plan     plan
		after    string
		widen    int
		searched string
	}{
		{"first", first, "", 1400 / followShare, ""},
		{"of its own", later, "", 1400 / followShare, ""},
		{"pointing back", back, "Where does the tower stand?", 1400 / followShare, "Where does the tower stand? And when was it built?"},
		{"both too long", long, "", 1400 / followShare, ""},
		{"of no room", small, "", 1, ""},
	} {
		q, searched := c.plan.query()
		want := retrieve.Query{Text: c.plan.text, After: c.after, Collection: "c", Limit: 5, Widen: c.widen}
		if q.Text != want.Text || q.After != want.After || q.Collection != want.Collection || q.Limit != want.Limit || q.Widen != want.Widen || searched != c.searched {
			t.Errorf("%s: searched for %+v, told as %q; want %+v, %q", c.name, q, searched, want, c.searched)
		}
	}
}
