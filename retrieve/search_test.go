package retrieve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"lessrag/cmd/api/postgres/pgtest"
)

var pets = []document{
	{"cats", []string{"Cats sleep for most of the day and hunt at dusk."}, map[string]any{"year": 2001, "tags": []string{"pet", "small"}, "draft": false}},
	{"dogs", []string{"Dogs guard the house and bark at strangers."}, map[string]any{"year": 2010, "tags": []string{"pet"}, "lang": "en"}},
	{"whales", []string{"Whales dive deep and sing to each other for hours."}, map[string]any{"year": 2020, "lang": "fr"}},
	{"trees", []string{"Oaks and beeches lose their leaves in autumn.", "Pines keep their needles all year round."}, map[string]any{"year": "unknown"}},
}

func TestSearchModes(t *testing.T) {
	pool, e := pgtest.New(t), bagEmbedder{"bag"}
	store(t, pool, e, "pets", pets...)
	store(t, pool, e, "other", document{name: "decoy", parts: []string{"Cats sleep for most of the day and hunt at dusk."}})
	s := New(pool, e, nil)
	for _, mode := range []string{"", Hybrid, Vector, Lexical} {
		for _, exact := range []bool{false, true} {
			r, err := s.Search(t.Context(), Query{Text: "when do cats hunt", Collection: "pets", Mode: mode, Exact: exact})
			if err != nil {
				t.Fatalf("%q: %v", mode, err)
			}
			best := r.Passages[0]
			if best.Document != (Document{"cats", "file:///cats"}) || best.Text != pets[0].parts[0] || best.Start != 0 || best.End != len(best.Text) ||
				best.Tokens != 11 || best.Page != nil || best.HeadingPath[0] != "Heading" || len(best.DocumentID) != 36 {
				t.Errorf("%q exact %v: best is %+v", mode, exact, best)
			}
			want := Ranks{1, 1}
			switch mode {
			case Vector:
				want.Lexical = 0
			case Lexical:
				want.Vector = 0
			}
			if best.Ranks != want {
				t.Errorf("%q: ranks %v, want %v", mode, best.Ranks, want)
			}
			score := best.Similarity // and all of the words
			if want.Lexical > 0 {
				score += wordsWeight
			}
			if !(math.Abs(best.Score-score) <= 1e-9) || !best.AllTerms {
				t.Errorf("%q: score %g, want %g; all terms %v", mode, best.Score, score, best.AllTerms)
			}
			if got := best.Similarity > 0.2; got != (mode != Lexical) {
				t.Errorf("%q: similarity %g", mode, best.Similarity)
			}
			if (r.EmbedTime > 0) != (mode != Lexical) || r.SearchTime <= 0 || r.WidenTime <= 0 {
				t.Errorf("%q: took %v and %v", mode, r.EmbedTime, r.SearchTime)
			}
			if mode == Lexical && len(r.Passages) != 1 || mode != Lexical && len(r.Passages) != 4 {
				t.Errorf("%q: %d passages: %s", mode, len(r.Passages), names(r.Passages))
			}
		}
	}
}

// A follow-up is searched for in its own words and together with the question before it: alone, this one is
// nearest to the dogs, and after a longer question about cats to those.
func TestSearchFollowUp(t *testing.T) {
	pool, e := pgtest.New(t), bagEmbedder{"bag"}
	store(t, pool, e, "pets", pets...)
	s := New(pool, e, nil)
	const before, text = "do cats sleep for most of the day and hunt at dusk", "and strangers at dusk"
	vector := func(text string) []float32 {
		v, err := e.EmbedQuery(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	own, both := vector(text), vector(before+" "+text)
	want := make([]float32, len(own))
	for i := range want {
		want[i] = own[i] + both[i]
	}
	unit(want)
	got, err := s.embed(t.Context(), Query{Text: text, After: before})
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !(math.Abs(float64(got[i]-want[i])) <= 1e-6) {
			t.Fatalf("the vector is %v, want %v", got, want)
		}
	}
	r, err := s.Search(t.Context(), Query{Text: text, After: before, Collection: "pets"})
	if err != nil {
		t.Fatal(err)
	}
	if best := r.Passages[0]; best.Document.Name != "cats" || best.Ranks.Lexical != 1 {
		t.Errorf("the words of both questions lead to %+v", best)
	}
	for _, pair := range [][2][]float32{{{0.6, 0.8}, {-0.6, -0.8}}, {{0, 0}, {0, 0}}} {
		if m := middle(pair[0], pair[1]); m[0] != pair[0][0] || m[1] != pair[0][1] {
			t.Errorf("between %v and %v lies %v", pair[0], pair[1], m)
		}
	}
}

// TestSearchWords holds any word below all words, and stop words and dashes for nothing.
func TestSearchWords(t *testing.T) {
	pool, e := pgtest.New(t), bagEmbedder{"bag"}
	store(t, pool, e, "c",
		document{name: "any", parts: []string{"archive archive archive archive"}},
		document{name: "all", parts: []string{"The long story of how an archive came to be, told slowly over many years, was extracted."}},
		document{name: "phrase", parts: []string{"to extract archive files, use tar"}},
		document{name: "none", parts: []string{"something else"}},
	)
	s := New(pool, e, nil)
	for _, c := range []struct{ query, want string }{
		{"extract archive", "phrase all any"},
		{"What extracts the archives?", "phrase all any"},
		{`"extract archive"`, "phrase all any"},
		{"tar or story", "phrase all"},
		{"archive -extract", "phrase all any"},
		{"archive (-extract)", "phrase all any"},
		{"unheard (-extract) of", "phrase all"},
		{"the of and", ""},
		{"?!", ""},
		{"(((' & | ! <-> \\ :* ''", ""},
		{"unheard", ""},
	} {
		r, err := s.Search(t.Context(), Query{Text: c.query, Collection: "c", Mode: Lexical})
		if err != nil {
			t.Errorf("%q: %v", c.query, err)
		} else if got := names(r.Passages); got != c.want {
			t.Errorf("%q: %q, want %q", c.query, got, c.want)
		}
	}
}

func TestSearchFilter(t *testing.T) {
	pool, e := pgtest.New(t), bagEmbedder{"bag"}
	store(t, pool, e, "pets", pets...)
	s := New(pool, e, nil)
	for _, c := range []struct{ filter, want string }{
		{`{}`, "cats dogs trees whales"},
		{`{"year": 2010}`, "dogs"},
		{`{"year": {"ne": 2010}}`, "cats trees whales"},
		{`{"year": {"gte": 2001, "lt": 2020}}`, "cats dogs"},
		{`{"year": {"gt": 2001}}`, "dogs whales"},
		{`{"year": {"lte": 2001}}`, "cats"},
		{`{"year": {"gte": "t"}}`, "trees"},
		{`{"tags": "pet"}`, "cats dogs"},
		{`{"tags": {"in": ["small", "large"]}}`, "cats"},
		{`{"tags": {"ne": "small"}}`, "dogs trees whales"},
		{`{"lang": {"in": ["en", "fr", null, 3]}}`, "dogs whales"},
		{`{"lang": {"exists": false}}`, "cats trees"},
		{`{"lang": {"exists": true}, "year": {"gt": 2015}}`, "whales"},
		{`{"draft": false}`, "cats"},
		{`{"year": 2010.5}`, ""},
		{`{"lang": null}`, ""},
		{`{"lang') OR true --": "x"}`, ""},
		{`{"lang": "en' OR '1'='1"}`, ""},
	} {
		query := Query{Text: "cats dogs whales oaks pines", Collection: "pets"}
		if err := json.Unmarshal([]byte(c.filter), &query.Filter); err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{Hybrid, Vector, Lexical} {
			query.Mode = mode
			r, err := s.Search(t.Context(), query)
			if err != nil {
				t.Errorf("%s: %v", c.filter, err)
				continue
			}
			found := map[string]bool{}
			for _, p := range r.Passages {
				found[p.Document.Name] = true
			}
			want := strings.Fields(c.want)
			for _, name := range want {
				if !found[name] {
					t.Errorf("%s %s: %s is missing", mode, c.filter, name)
				}
			}
			if len(found) != len(want) {
				t.Errorf("%s %s: found %v, want %v", mode, c.filter, found, want)
			}
		}
	}
}

func TestSearchRefuses(t *testing.T) {
	pool, e := pgtest.New(t), bagEmbedder{"bag"}
	store(t, pool, e, "pets", pets...)
	s := New(pool, e, nil)
	many := map[string]any{}
	for i := range 33 {
		many[fmt.Sprint(i)] = i
	}
	for _, c := range []struct {
		name  string
		query Query
		field string
	}{
		{"empty", Query{Collection: "pets"}, "query"},
		{"blank", Query{Text: " \n", Collection: "pets"}, "query"},
		{"long", Query{Text: strings.Repeat("x", MaxQueryBytes+1), Collection: "pets"}, "query"},
		{"long with the question before", Query{Text: strings.Repeat("x", MaxQueryBytes), After: "y", Collection: "pets"}, "query"},
		{"NUL in the question before", Query{Text: "a", After: "\x00", Collection: "pets"}, "query"},
		{"invalid UTF-8", Query{Text: "a\xff", Collection: "pets"}, "query"},
		{"NUL", Query{Text: "a\x00b", Collection: "pets"}, "query"},
		{"no collection", Query{Text: "a"}, "collection"},
		{"NUL in the collection", Query{Text: "a", Collection: "pets\x00"}, "collection"},
		{"negative limit", Query{Text: "a", Collection: "pets", Limit: -1}, "limit"},
		{"huge limit", Query{Text: "a", Collection: "pets", Limit: 101}, "limit"},
		{"negative width", Query{Text: "a", Collection: "pets", Widen: -1}, "widen"},
		{"huge width", Query{Text: "a", Collection: "pets", Widen: MaxWiden + 1}, "widen"},
		{"mode", Query{Text: "a", Collection: "pets", Mode: "fuzzy"}, "mode"},
		{"operator", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": map[string]any{"like": "x"}}}, "filter.k"},
		{"operator with SQL", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": map[string]any{"= 1 OR": "x"}}}, "filter.k"},
		{"no operator", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": map[string]any{}}}, "filter.k"},
		{"list", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": []any{1}}}, "filter.k"},
		{"object", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": map[string]any{"eq": map[string]any{}}}}, "filter.k"},
		{"NaN", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": math.NaN()}}, "filter.k"},
		{"huge number", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": json.Number("1e999")}}, "filter.k"},
		{"NUL in a value", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": "\x00"}}, "filter.k"},
		{"invalid value", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": "\xff"}}, "filter.k"},
		{"NUL in a key", Query{Text: "a", Collection: "pets", Filter: map[string]any{"\x00": 1}}, "filter"},
		{"order of booleans", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": map[string]any{"lt": true}}}, "filter.k"},
		{"empty in", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": map[string]any{"in": []any{}}}}, "filter.k"},
		{"nested in", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": map[string]any{"in": []any{[]any{}}}}}, "filter.k"},
		{"exists", Query{Text: "a", Collection: "pets", Filter: map[string]any{"k": map[string]any{"exists": 1}}}, "filter.k"},
		{"too many", Query{Text: "a", Collection: "pets", Filter: many}, "filter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Search(t.Context(), c.query)
			if invalid, ok := errors.AsType[*InvalidError](err); !ok || invalid.Field != c.field {
				t.Errorf("got %v, want an InvalidError for %s", err, c.field)
			}
		})
	}
	if _, err := s.Search(t.Context(), Query{Text: "a", Collection: "none"}); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `"none"`) {
		t.Errorf("unknown collection: %v", err)
	}
	_, err := New(pool, bagEmbedder{"another"}, nil).Search(t.Context(), Query{Text: "a", Collection: "pets"})
	if mismatch, ok := errors.AsType[*EmbedderMismatchError](err); !ok || *mismatch != (EmbedderMismatchError{"pets", "bag", "another"}) {
		t.Errorf("another embedder: %v", err)
	}
	if _, err := New(pool, bagEmbedder{"another"}, nil).Search(t.Context(), Query{Text: "a", Collection: "pets", Mode: Lexical}); err != nil {
		t.Errorf("another embedder by words: %v", err)
	}
}

// TestSearchIndex holds a collection that is large enough to its two indexes,
// and what the vector index finds to the exact scan.
func TestSearchIndex(t *testing.T) {
	pool, e := pgtest.New(t), bagEmbedder{"bag"}
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 400)
	for i := range words {
		words[i] = fmt.Sprintf("word%c%c", 'a'+i/20, 'a'+i%20)
	}
	documents := make([]document, 60)
	for i := range documents {
		documents[i] = document{name: fmt.Sprint(i), metadata: map[string]any{"half": i % 2}}
		for range 30 {
			text := ""
			for range 8 {
				text += words[r.IntN(len(words))] + " "
			}
			documents[i].parts = append(documents[i].parts, text)
		}
	}
	store(t, pool, e, "large", documents...)
	if _, err := pool.Exec(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	s := New(pool, e, nil)
	c, err := s.collection(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	blind := New(nearlyBlind(t, pool), e, nil)
	for _, filter := range []map[string]any{nil, {"half": 1}} {
		query := Query{Text: words[0] + " " + words[7] + " " + words[300], Collection: "large", Limit: 40, Widen: 1, Mode: Vector, Filter: filter}
		plan := explain(t, s, query, c)
		for _, index := range []string{"chunks_embedding", "chunks_lexemes"} {
			if !strings.Contains(plan, index) {
				t.Errorf("filter %v: the plan does not use %s:\n%s", filter, index, plan)
			}
		}
		approximate := s.byIndex(t, query, c)
		query.Exact = true
		if plan := explain(t, s, query, c); strings.Contains(plan, "chunks_embedding") {
			t.Errorf("filter %v: the exact plan uses the index:\n%s", filter, plan)
		}
		exact, err := s.Search(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		truth := map[int64]bool{}
		for _, p := range exact.Passages {
			truth[p.ID] = true
		}
		found := 0
		for _, p := range approximate {
			if truth[p.ID] {
				found++
			}
		}
		if n := len(exact.Passages); found*10 < n*9 || n != 40 {
			t.Errorf("filter %v: the index finds %d of the %d nearest", filter, found, len(exact.Passages))
		}
		query.Exact = false
		small, err := blind.Search(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := names(small.Passages), names(exact.Passages); got != want {
			t.Errorf("filter %v: of a collection of 1,800 chunks %s are found, not the nearest, %s", filter, got, want)
		}
	}
}

// nearlyBlind is a pool for which the index of vectors finds one row.
func nearlyBlind(t *testing.T, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	config := pool.Config()
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SET hnsw.iterative_scan = off; SET hnsw.ef_search = 1")
		return err
	}
	blind, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(blind.Close)
	return blind
}

// byIndex is what the statement of a search finds where not every vector is looked at.
func (s *Searcher) byIndex(t *testing.T, q Query, c collection) []Passage {
	t.Helper()
	filter, err := parseFilter(q.Filter)
	if err != nil {
		t.Fatal(err)
	}
	vector, err := s.embedder.EmbedQuery(t.Context(), q.Text)
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.find(t.Context(), q, c, filter, vector)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// explain returns the plan that a search of both lists would have.
func explain(t *testing.T, s *Searcher, q Query, c collection) string {
	t.Helper()
	filter, err := parseFilter(q.Filter)
	if err != nil {
		t.Fatal(err)
	}
	vector, err := s.embedder.EmbedQuery(t.Context(), q.Text)
	if err != nil {
		t.Fatal(err)
	}
	q.Mode = Hybrid
	sql, args := statement(q, c, filter, vector)
	rows, err := s.pool.Query(t.Context(), "EXPLAIN "+sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "\n")
}

// TestSearchReranks lets a reranker turn the order of what both lists found;
// one list alone keeps its own.
func TestSearchReranks(t *testing.T) {
	pool, e := pgtest.New(t), bagEmbedder{"bag"}
	store(t, pool, e, "pets", pets...)
	for _, c := range []struct {
		mode, best string
	}{{Hybrid, "trees"}, {Vector, "cats"}, {Lexical, "cats"}} {
		r, err := New(pool, e, pines{}).Search(t.Context(), Query{Text: "when do cats hunt", Collection: "pets", Mode: c.mode})
		if err != nil {
			t.Fatal(err)
		}
		if r.Passages[0].Document.Name != c.best || (r.RerankTime > 0) != (c.mode == Hybrid) {
			t.Errorf("%s: %s, reranked in %v; want %s first", c.mode, names(r.Passages), r.RerankTime, c.best)
		}
	}
	if _, err := New(pool, e, brokenReranker{}).Search(t.Context(), Query{Text: "cats", Collection: "pets"}); !errors.Is(err, errBroken) {
		t.Errorf("a broken reranker gave %v", err)
	}
}

// pines likes what names them, below the heading that store gives all.
type pines struct{}

func (pines) Added() bool { return false }

func (pines) Score(_ context.Context, question string, passages []string) ([]float32, error) {
	scores := make([]float32, len(passages))
	for i, p := range passages {
		if question == "when do cats hunt" && strings.HasPrefix(p, "Heading\n\n") && strings.Contains(p, "Pines") {
			scores[i] = 1
		}
	}
	return scores, nil
}
