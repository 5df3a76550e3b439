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
// fit: more is better.
type Reranker interface {
	Score(ctx context.Context, question string, passages []string) ([]float32, error)
	Added() bool // the scores are cosines, to be added to the search's; if not, any numbers that take its place
}

// How many of the fused candidates a reranker reads; those after them keep their
// places. addedWeight is what one cosine of a second embedder counts.
const (
	mostReranked = 40
	mostAdded    = 30
	addedWeight  = 0.3
)

// rerank sorts the first passages by a reranker, which sees them below their
// headings, and gives them its score as a probability, or adds it to theirs.
func rerank(ctx context.Context, r Reranker, question string, passages []Passage) error {
	most := mostReranked
	if r.Added() {
		most = mostAdded
	}
	passages = passages[:min(most, len(passages))]
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
		if r.Added() {
			passages[i].Score += addedWeight * float64(s)
		} else {
			passages[i].Score = 1 / (1 + math.Exp(-float64(s)))
		}
	}
	slices.SortStableFunc(passages, func(a, b Passage) int { return cmp.Compare(b.Score, a.Score) })
	return nil
}
