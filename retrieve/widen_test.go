package retrieve

import (
	"strings"
	"testing"

	"lessrag/cmd/api/postgres/pgtest"
)

// A place is what was found and what is around it under the same headings, and says where in it that was.
func TestSearchWidens(t *testing.T) {
	pool, e := pgtest.New(t), bagEmbedder{"bag"}
	parts := []string{"First of all one.", "Boil the kettle twice.", "Third comes tea.", "Fourth is another matter.", "Fifth again.", "Sixth is far."}
	store(t, pool, e, "tea", document{name: "tea", parts: parts}, document{name: "coffee", parts: []string{"Grind the beans."}})
	if _, err := pool.Exec(t.Context(), `UPDATE chunks SET heading_path = '{Other}' WHERE ordinal = 3`); err != nil {
		t.Fatal(err)
	}
	s := New(pool, e, nil)
	for _, c := range []struct {
		widen int
		want  []string
	}{
		{1, parts[1:2]},
		{7, parts[1:3]},
		{8, parts[1:3]},
		{11, parts[:3]},
		{1000, parts[:3]}, // and not the fifth, which stands behind another heading
	} {
		found, err := s.Search(t.Context(), Query{Text: "boil the kettle twice", Collection: "tea", Limit: 1, Widen: c.widen})
		if err != nil {
			t.Fatal(err)
		}
		p := found.Passages[0]
		if want := strings.Join(c.want, "\n\n"); p.Text != want || p.End-p.Start != len(want) || p.Tokens != len(strings.Fields(want)) {
			t.Errorf("%d tokens: %q (%d…%d, %d tokens), want %q", c.widen, p.Text, p.Start, p.End, p.Tokens, want)
		}
		if got := p.Text[p.FoundStart-p.Start : p.FoundEnd-p.Start]; got != parts[1] {
			t.Errorf("%d tokens: %q was found, want %q", c.widen, got, parts[1])
		}
	}
}
