package embed

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"lessrag/lesskernels/cpu"
)

// tinyRow is one row of testdata/tiny.json, as testdata/make_tiny.py writes it.
type tinyRow struct {
	Question string    `json:"question"`
	Passage  string    `json:"passage"`
	Score    float64   `json:"score"`  // BertForSequenceClassification's logit
	IDs      []int32   `json:"ids"`    // of both
	Types    []int     `json:"types"`  // of the ids
	Vector   []float64 `json:"vector"` // of the passage: its first token's state, of length 1
}

func tinyRows(t *testing.T) []tinyRow {
	t.Helper()
	data, err := os.ReadFile("testdata/tiny.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []tinyRow
	if err := json.Unmarshal(data, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) < 10 {
		t.Fatalf("%d rows", len(rows))
	}
	return rows
}

func openTiny(t *testing.T) *Reranker {
	t.Helper()
	pool := cpu.NewPool(2)
	t.Cleanup(pool.Close)
	r, err := OpenReranker("testdata/tiny-reranker", pool)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestScoreReference holds pairs' tokens and scores to transformers'.
func TestScoreReference(t *testing.T) {
	r := openTiny(t)
	limit := r.encoder.maxTokens
	for i, row := range tinyRows(t) {
		pair := join(r.tokenizer.Encode(row.Question, limit), r.tokenizer.Encode(row.Passage, limit)[1:], limit)
		if !slices.Equal(pair.ids, row.IDs) || pair.second != slices.Index(append(row.Types, 1), 1) {
			t.Errorf("pair %d: %d ids, the second from %d; want %d, %d", i, len(pair.ids), pair.second, len(row.IDs), slices.Index(row.Types, 1))
		}
		got, err := r.Score(t.Context(), row.Question, []string{row.Passage})
		if err != nil {
			t.Fatal(err)
		}
		if d := math.Abs(float64(got[0]) - row.Score); !(d <= 1e-4) {
			t.Errorf("pair %d: score %g, want %g", i, got[0], row.Score)
		}
	}
}

// TestScoreMany scores passages of more than one pass together as it does alone.
func TestScoreMany(t *testing.T) {
	r := openTiny(t)
	var passages []string
	for range 5 {
		for _, row := range tinyRows(t) {
			passages = append(passages, row.Passage)
		}
	}
	all, err := r.Score(t.Context(), "how do i find it?", passages)
	if err != nil || len(all) != len(passages) {
		t.Fatal(len(all), err)
	}
	for i, p := range passages {
		alone, err := r.Score(t.Context(), "how do i find it?", []string{p})
		if err != nil {
			t.Fatal(err)
		}
		if d := math.Abs(float64(alone[0] - all[i])); !(d <= 1e-4) {
			t.Errorf("passage %d: %g alone, %g among others", i, alone[0], all[i])
		}
	}
	if got, err := r.Score(t.Context(), "nothing?", nil); err != nil || len(got) != 0 {
		t.Errorf("no passages: %v, %v", got, err)
	}
}

func TestScoreCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, passages := range [][]string{nil, {"here"}} {
		if _, err := openTiny(t).Score(ctx, "where?", passages); !errors.Is(err, context.Canceled) {
			t.Errorf("%d passages: %v", len(passages), err)
		}
	}
}

func TestScoreOfBrokenWeights(t *testing.T) {
	r := openTiny(t)
	r.classifier[3] = float32(math.NaN())
	if _, err := r.Score(t.Context(), "where?", []string{"here"}); !errors.Is(err, errNotFinite) {
		t.Errorf("got %v", err)
	}
}

// TestFirstTokenReference holds the vectors of a model that takes [CLS]'s to
// transformers', and the sentence that questions begin with to its effect.
func TestFirstTokenReference(t *testing.T) {
	pool := cpu.NewPool(2)
	t.Cleanup(pool.Close)
	m, err := Open("testdata/tiny-embedder", pool)
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range tinyRows(t) {
		got, err := m.Embed(t.Context(), []string{row.Passage, "find " + row.Question})
		if err != nil {
			t.Fatal(err)
		}
		for j, x := range got[0] {
			if d := math.Abs(float64(x) - row.Vector[j]); !(d <= 1e-4) {
				t.Fatalf("passage %d value %d: %g, want %g", i, j, x, row.Vector[j])
			}
		}
		asked, err := m.EmbedQuery(t.Context(), row.Question)
		if err != nil {
			t.Fatal(err)
		}
		if d := cpu.Dot(asked, got[1]); !(d >= 0.99999) {
			t.Errorf("question %d has a cosine of %g to itself after the model's prompt", i, d)
		}
	}
}

func TestOpenRerankerRefuses(t *testing.T) {
	pool := cpu.NewPool(1)
	defer pool.Close()
	for _, c := range []struct{ name, file, old, new, want string }{
		{"missing weights", "model.safetensors", "", "", "no such file"},
		{"one type of token", "config.json", `"type_vocab_size": 2`, `"type_vocab_size": 1`, "type_vocab_size"},
		{"an encoder without a classifier", "model.safetensors", "classifier.weight", "classifiex.weight", "classifier.weight"},
		{"an encoder without a pooler", "model.safetensors", "bert.pooler.dense.bias", "bert.pooler.dense.bixs", "bert.pooler.dense.bias"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := brokenCopy(t, "testdata/tiny-reranker", c.file, c.old, c.new)
			if _, err := OpenReranker(dir, pool); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got error %v, want one about %q that names the folder", err, c.want)
			}
		})
	}
}
