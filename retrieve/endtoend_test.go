package retrieve

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lessrag/cmd/api/postgres/pgtest"
	"lessrag/decode/embed"
	"lessrag/lesskernels/cpu"
)

// corpus is twelve short documents, questions that they answer, and questions
// that they do not.
type corpus struct {
	Documents  []struct{ Name, Text string }
	Relevant   []struct{ Question, Source string }
	Irrelevant []string
	Claims     []struct{ Text, Source string } // sentences; no source: nothing says them
}

func readCorpus(t *testing.T) corpus {
	t.Helper()
	data, err := os.ReadFile("testdata/corpus.json")
	if err != nil {
		t.Fatal(err)
	}
	var c corpus
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// openEmbedder opens the embedder that make fetch brings.
func openEmbedder(t *testing.T) *embed.Model {
	t.Helper()
	assets := os.Getenv("LESSRAG_ASSETS")
	if assets == "" {
		assets = filepath.Join("..", "assets")
	}
	pool := cpu.NewPool(2)
	t.Cleanup(pool.Close)
	m, err := embed.Open(filepath.Join(assets, "embedders", "all-MiniLM-L6-v2"), pool)
	if err != nil {
		t.Fatalf("%v: run make fetch", err)
	}
	return m
}

// openCorpus stores the corpus with the real embedder.
func openCorpus(t *testing.T) (corpus, *Searcher) {
	t.Helper()
	c, e, pool := readCorpus(t), openEmbedder(t), pgtest.New(t)
	var documents []document
	for _, d := range c.Documents {
		documents = append(documents, document{name: d.Name, parts: []string{d.Text}})
	}
	store(t, pool, e, "corpus", documents...)
	return c, New(pool, e, nil)
}

// TestFindsAndRefuses is the whole way with the real embedder: every question
// finds its document, and Relevant tells those that have one from those that
// have none. It is also the measurement behind MinSimilarity.
func TestFindsAndRefuses(t *testing.T) {
	c, s := openCorpus(t)
	search := func(question string) []Passage {
		r, err := s.Search(t.Context(), Query{Text: question, Collection: "corpus", Limit: 5})
		if err != nil {
			t.Fatal(err)
		}
		return r.Passages
	}
	first, accepted, refused := 0, 0, 0
	var near, far []float64
	for _, q := range c.Relevant {
		found := search(q.Question)
		if found[0].Document.Name == q.Source {
			first++
		}
		if !slices.ContainsFunc(found, func(p Passage) bool { return p.Document.Name == q.Source }) {
			t.Errorf("%q: found %s, not %s", q.Question, names(found), q.Source)
		}
		near = append(near, mostSimilar(found))
		if Relevant(found, MinSimilarity) {
			accepted++
		} else {
			t.Logf("refused: %q (%.3f)", q.Question, mostSimilar(found))
		}
	}
	for _, question := range c.Irrelevant {
		found := search(question)
		far = append(far, mostSimilar(found))
		if !Relevant(found, MinSimilarity) {
			refused++
		} else {
			t.Logf("answered: %q (%.3f, %s)", question, mostSimilar(found), names(found[:1]))
		}
	}
	slices.Sort(near)
	slices.Sort(far)
	t.Logf("similarity with an answer: %.3f; without: %.3f", near, far)
	t.Logf("first of all: %d of %d; accepted %d; refused %d of %d", first, len(c.Relevant), accepted, refused, len(c.Irrelevant))
	if 10*first < 9*len(c.Relevant) {
		t.Errorf("only %d of %d questions find their document first", first, len(c.Relevant))
	}
	if 20*accepted < 19*len(c.Relevant) {
		t.Errorf("%d of %d questions with an answer are accepted", accepted, len(c.Relevant))
	}
	if 10*refused < 9*len(c.Irrelevant) {
		t.Errorf("%d of %d questions without an answer are refused", refused, len(c.Irrelevant))
	}
}

func mostSimilar(passages []Passage) float64 {
	best := -1.0
	for _, p := range passages {
		best = max(best, p.Similarity)
	}
	return best
}

// TestEndToEnd goes from a question to a cited answer, the reader's part
// being a sentence of the passage that it was given.
func TestEndToEnd(t *testing.T) {
	_, s := openCorpus(t)
	const question = "How far can the lighthouse be seen?"
	r, err := s.Search(t.Context(), Query{Text: question, Collection: "corpus", Limit: 5})
	if err != nil {
		t.Fatal(err)
	}
	if !Relevant(r.Passages, MinSimilarity) {
		t.Fatalf("nothing relevant in %s", names(r.Passages))
	}
	kept, dropped := Pack(r.Passages, wordCounter{}, 150)
	if len(kept) == 0 || len(kept)+dropped != len(r.Passages) || kept[0].Document.Name != "lighthouse" {
		t.Fatalf("kept %s, dropped %d", names(kept), dropped)
	}
	messages := Prompt(question, kept)
	if last := messages[len(messages)-1]; !strings.Contains(last.Content, kept[0].Text) || !strings.Contains(last.Content, question) {
		t.Errorf("the prompt lacks the passage or the question: %q", last.Content)
	}
	answer, cites := cite(kept, "The lamp of Skerry Point is seen for 24 nautical miles [7]. I like it.")
	if answer != "The lamp of Skerry Point is seen for 24 nautical miles [1]. I like it." || len(cites) != 1 {
		t.Fatalf("answer %q, citations %+v", answer, cites)
	}
	quote := kept[0].Text[cites[0].QuoteStart-kept[0].Start : cites[0].QuoteEnd-kept[0].Start]
	if !strings.Contains(quote, "24 nautical miles") {
		t.Errorf("the quote is %q", quote)
	}
	if got := fmt.Sprint(cites[0].PassageID); got != fmt.Sprint(kept[0].ID) {
		t.Errorf("cites passage %s, want %d", got, kept[0].ID)
	}
}
