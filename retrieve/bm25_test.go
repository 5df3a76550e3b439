package retrieve

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"lessrag/cmd/api/postgres/pgtest"
)

// plainBM25 ranks texts for a query as the SQL must: those with all words
// first, then by the published formula, word by word. It returns the places of
// the texts that hold a word.
func plainBM25(texts []string, query string) (order []int, weights []float64) {
	holders, length := map[string]int{}, 0
	counts := make([]map[string]int, len(texts))
	for i, text := range texts {
		counts[i] = map[string]int{}
		for word := range strings.FieldsSeq(text) {
			counts[i][word]++
			length++
		}
		for word := range counts[i] {
			holders[word]++
		}
	}
	all := make([]bool, len(texts))
	weights = make([]float64, len(texts))
	words := strings.Fields(query)
	slices.Sort(words)
	words = slices.Compact(words)
	for i, text := range texts {
		all[i] = true
		relative := float64(len(strings.Fields(text))) * float64(len(texts)) / float64(length)
		for _, word := range words {
			n, df := float64(counts[i][word]), float64(holders[word])
			if n == 0 {
				all[i] = false
				continue
			}
			idf := math.Log(1 + (float64(len(texts))-df+0.5)/(df+0.5))
			weights[i] += idf * n * (saturation + 1) / (n + saturation*(1-lengthWeight+lengthWeight*relative))
		}
		if weights[i] > 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if all[a] != all[b] {
			if all[a] {
				return -1
			}
			return 1
		}
		return cmp.Compare(weights[b], weights[a])
	})
	return order, weights
}

// TestBM25 holds the ranking by words to the plain formula, on a collection
// that others stand beside and that loses and gains documents.
func TestBM25(t *testing.T) {
	pool, e := pgtest.New(t), bagEmbedder{"bag"}
	r := rand.New(rand.NewPCG(3, 4))
	word := func() string { // the first words are much more frequent; no stemmer touches them
		n := int(80 * math.Pow(r.Float64(), 3))
		return fmt.Sprintf("%ck%ck", "bdfgjklmpr"[n/8], "aeiouyhw"[n%8])
	}
	text := func() string {
		words := make([]string, 9+r.IntN(60))
		for i := range words {
			words[i] = word()
		}
		return strings.Join(words, " ")
	}
	var documents []document
	for i := range 90 {
		documents = append(documents, document{name: fmt.Sprint(i), parts: []string{text()}})
	}
	store(t, pool, e, "other", documents[:20]...)
	store(t, pool, e, "c", documents[:70]...)
	check := func(documents []document) {
		t.Helper()
		checkLexicon(t, pool)
		var texts []string
		for _, d := range documents {
			texts = append(texts, d.parts[0])
		}
		for range 20 {
			words := make([]string, 1+r.IntN(6))
			for i := range words {
				words[i] = word()
			}
			query := strings.Join(words, " ")
			found, err := New(pool, e, nil).Search(t.Context(), Query{Text: query, Collection: "c", Mode: Lexical, Limit: MaxLimit})
			if err != nil {
				t.Fatal(err)
			}
			want, weights := plainBM25(texts, query)
			if len(found.Passages) != len(want) {
				t.Fatalf("%q: found %d passages, want %d", query, len(found.Passages), len(want))
			}
			for i, p := range found.Passages {
				at := slices.Index(texts, p.Text)
				if at < 0 || !(math.Abs(weights[at]-weights[want[i]]) <= 1e-9) {
					t.Errorf("%q: place %d has weight %v, want %v", query, i+1, weights[at], weights[want[i]])
				}
			}
			checkScores(t, New(pool, e, nil), query, texts, weights)
		}
	}
	check(documents[:70])
	_, err := pool.Exec(t.Context(), `DELETE FROM documents d USING collections c WHERE c.id = d.collection_id AND c.name = 'c' AND d.name::int % 2 = 0`)
	if err != nil {
		t.Fatal(err)
	}
	var odd []document
	for i, d := range documents[:70] {
		if i%2 == 1 {
			odd = append(odd, d)
		}
	}
	check(odd)
	if _, err := pool.Exec(t.Context(), `DELETE FROM collections WHERE name = 'c'`); err != nil {
		t.Fatal(err)
	}
	checkLexicon(t, pool)
	store(t, pool, e, "c", documents[60:]...)
	check(documents[60:])
}

// checkScores holds what both lists give to cosine and words, whichever of the
// lists a passage was in.
func checkScores(t *testing.T, s *Searcher, query string, texts []string, weights []float64) {
	t.Helper()
	found, err := s.Search(t.Context(), Query{Text: query, Collection: "c", Limit: MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Passages) != len(texts) {
		t.Errorf("%q: found %d of %d", query, len(found.Passages), len(texts))
	}
	last := math.Inf(1)
	for _, p := range found.Passages {
		share := 0.0
		if highest := slices.Max(weights); highest > 0 {
			share = weights[slices.Index(texts, p.Text)] / highest
		}
		all := true
		for _, w := range strings.Fields(query) {
			all = all && slices.Contains(strings.Fields(p.Text), w)
		}
		if all {
			share = 1
		}
		if want := p.Similarity + wordsWeight*share; !(math.Abs(p.Score-want) <= 1e-9) || p.AllTerms != all || p.Score > last {
			t.Errorf("%q: score %v after %v, want %v; all words %v, want %v", query, p.Score, last, want, p.AllTerms, all)
		}
		last = p.Score
	}
}

// checkLexicon holds what is kept of all collections to a count of everything.
func checkLexicon(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for table, count := range map[string]string{
		"lexicon":        "SELECT collection_id, lexeme, count(*) FROM chunks, unnest(lexemes) GROUP BY 1, 2",
		"lexicon_totals": "SELECT collection_id, count(*), sum(tokens) FROM chunks GROUP BY 1",
	} {
		var differ, kept int
		err := pool.QueryRow(t.Context(), fmt.Sprintf(`SELECT count(*), (SELECT count(*) FROM %s)
			FROM ((TABLE %[1]s EXCEPT ALL (%s)) UNION ALL ((%[2]s) EXCEPT ALL TABLE %[1]s)) d`, table, count)).Scan(&differ, &kept)
		if err != nil || differ != 0 || kept == 0 {
			t.Errorf("%s: %d of %d rows differ from a count, %v", table, differ, kept, err)
		}
	}
}
