package retrieve

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Reranker reads a question together with each passage and says how well they
// fit: any number, more is better.
type Reranker interface {
	Score(ctx context.Context, question string, passages []string) ([]float32, error)
}

// mostReranked is how many of the fused candidates a reranker reads; those
// after them keep their places.
const mostReranked = 40

// rerank sorts the first mostReranked passages by a reranker, which sees them
// below their headings, and gives them its score as a probability.
func rerank(ctx context.Context, r Reranker, question string, passages []Passage) error {
	passages = passages[:min(mostReranked, len(passages))]
	texts := make([]string, len(passages))
	for i, p := range passages {
		texts[i] = strings.Join(p.HeadingPath, " > ") + "\n\n" + p.Text
	}
	scores, err := r.Score(ctx, question, texts)
	if err != nil {
		return err
	}
	if len(scores) != len(passages) {
		return fmt.Errorf("%d scores for %d passages", len(scores), len(passages))
	}
	for i, s := range scores {
		passages[i].Score = 1 / (1 + math.Exp(-float64(s)))
	}
	slices.SortStableFunc(passages, func(a, b Passage) int { return cmp.Compare(b.Score, a.Score) })
	return nil
}
