package retrieve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// wordy is a reranker that likes every word of the question in a passage.
type wordy struct{ short bool }

func (w wordy) Score(_ context.Context, question string, passages []string) ([]float32, error) {
	var scores []float32
	for _, p := range passages {
		scores = append(scores, float32(strings.Count(p, question))-1)
	}
	if w.short {
		return scores[1:], nil
	}
	return scores, nil
}

func (wordy) Added() bool { return false }

// second is a wordy embedder.
type second struct{ wordy }

func (second) Added() bool { return true }

// TestRerankAdds adds a share of a second embedder's cosines to the scores of the first
// passages, and leaves the others as they are.
func TestRerankAdds(t *testing.T) {
	var passages []Passage
	for i := range mostAdded + 2 {
		passages = append(passages, Passage{ID: int64(i), Text: strings.Repeat("cat ", i%3), Score: 0.9 - 0.01*float64(i)})
	}
	if err := rerank(t.Context(), second{}, "cat", passages); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%d %.2f, %d %.2f", passages[0].ID, passages[0].Score, passages[10].ID, passages[10].Score); got != "2 1.18, 1 0.89" {
		t.Errorf("the first and the eleventh are %s", got)
	}
	for i, p := range passages[mostAdded:] {
		if p.ID != int64(mostAdded+i) || p.Score != 0.9-0.01*float64(mostAdded+i) {
			t.Errorf("passage %d after those read is %d with score %g", i, p.ID, p.Score)
		}
	}
}

func TestRerank(t *testing.T) {
	var passages []Passage
	for i := range mostReranked + 2 {
		passages = append(passages, Passage{ID: int64(i), Text: strings.Repeat("cat ", i%3), Score: 7})
	}
	passages[4].HeadingPath = []string{"cat", "cat"}
	if err := rerank(t.Context(), wordy{}, "cat", passages); err != nil {
		t.Fatal(err)
	}
	want := []int64{4, 2, 5, 8}
	for i, id := range want {
		if passages[i].ID != id {
			t.Errorf("place %d: passage %d, want %d", i, passages[i].ID, id)
		}
	}
	if got := fmt.Sprintf("%.3f %.3f", passages[0].Score, passages[1].Score); got != "0.881 0.731" {
		t.Errorf("scores %s", got)
	}
	if !slices.IsSortedFunc(passages[:mostReranked], func(a, b Passage) int { return int(1e6 * (b.Score - a.Score)) }) {
		t.Error("the reranked are not in order")
	}
	for i, p := range passages[mostReranked:] {
		if p.ID != int64(mostReranked+i) || p.Score != 7 {
			t.Errorf("passage %d after the reranked is %d with score %g", i, p.ID, p.Score)
		}
	}
	if err := rerank(t.Context(), wordy{}, "cat", nil); err != nil {
		t.Errorf("nothing found: %v", err)
	}
	if err := rerank(t.Context(), wordy{short: true}, "cat", passages); err == nil || !strings.Contains(err.Error(), "39 scores for 40") {
		t.Errorf("a missing score gave %v", err)
	}
	if err := rerank(t.Context(), brokenReranker{}, "cat", passages); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

type brokenReranker struct{}

func (brokenReranker) Added() bool { return false }

func (brokenReranker) Score(context.Context, string, []string) ([]float32, error) {
	return nil, errBroken
}
