package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"

	"lessrag/retrieve"
)

// refusalScore is what one threshold of similarity does.
type refusalScore struct {
	MinSimilarity float64 `json:"min_similarity"`
	Refused       float64 `json:"refused"` // share of the off-topic questions
	Lost          float64 `json:"lost"`    // share of the set's questions
}

// refusalTargets are the shares of off-topic questions to refuse.
var refusalTargets = []float64{0.5, 0.8, 0.9, 0.95, 0.99}

// allWords stands for a question all of whose words are in a passage, which is
// never refused: no cosine is as high. JSON has no infinity.
const allWords = 2

// refusals finds the thresholds for the first collection, searched in the way
// that answers are.
func (c *evalSetCmd) refusals(ctx context.Context, s *stack, questions []retrieve.Expected, log *evalLog) ([]refusalScore, error) {
	others, err := readSet(c.OffTopic, false)
	if err != nil {
		return nil, usageError{fmt.Errorf("--off-topic: %w", err)}
	}
	own, err := c.fits(ctx, s, questions, log)
	if err != nil {
		return nil, err
	}
	off, err := c.fits(ctx, s, others, log)
	if err != nil {
		return nil, err
	}
	return refusalsAt(own, off, c.MinSimilarity), nil
}

// fits is how near the passages found come to each question.
func (c *evalSetCmd) fits(ctx context.Context, s *stack, questions []retrieve.Expected, log *evalLog) ([]float64, error) {
	progress := newProgress(os.Stderr, "measuring similarity", len(questions))
	defer progress.finish()
	fits := make([]float64, len(questions))
	for i, q := range questions {
		key := evalKey{Question: q.Question, Collection: c.Collections[0], Mode: "fit", Prompt: fmt.Sprintf("limit %d", c.Limit)}
		fit, err := remembered(log, key, func() (float64, error) {
			found, err := s.searcher.Search(ctx, retrieve.Query{Text: q.Question, Collection: c.Collections[0], Limit: c.Limit})
			return min(max(retrieve.Fit(found.Passages), -allWords), allWords), err
		})
		if err != nil {
			return nil, fmt.Errorf("question %q: %w", q.Question, err)
		}
		fits[i] = fit
		progress.show(i + 1)
	}
	return fits, nil
}

// refusalsAt returns, for every share of off-topic questions that can be refused,
// the lowest threshold in thousandths that does, and what it costs; and the same
// of the threshold in use. It is pure.
func refusalsAt(own, off []float64, inUse float64) []refusalScore {
	if len(off) == 0 || len(own) == 0 {
		return nil
	}
	off = slices.Sorted(slices.Values(off))
	below := func(fits []float64, least float64) float64 {
		n := 0
		for _, fit := range fits {
			if fit < least {
				n++
			}
		}
		return float64(n) / float64(len(fits))
	}
	at := func(least float64) refusalScore { return refusalScore{least, below(off, least), below(own, least)} }
	scores := []refusalScore{at(inUse)}
	for _, target := range refusalTargets {
		last := off[int(math.Ceil(target*float64(len(off))))-1]
		if last >= allWords {
			break
		}
		scores = append(scores, at(math.Floor(last*1000+1)/1000))
	}
	return slices.CompactFunc(scores, func(a, b refusalScore) bool { return a == b })
}
