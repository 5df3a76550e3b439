package eval

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"

	"lessrag/cmd/api/progress"
	"lessrag/retrieve"
)

// RefusalScore is what one threshold of similarity does.
type RefusalScore struct {
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
func (o SetOptions) refusals(ctx context.Context, searcher *retrieve.Searcher, questions, others []retrieve.Expected, log *Log) ([]RefusalScore, error) {
	own, err := o.fits(ctx, searcher, questions, log)
	if err != nil {
		return nil, err
	}
	off, err := o.fits(ctx, searcher, others, log)
	if err != nil {
		return nil, err
	}
	return refusalsAt(own, off, o.MinSimilarity), nil
}

// fits is how near the passages found come to each question.
func (o SetOptions) fits(ctx context.Context, searcher *retrieve.Searcher, questions []retrieve.Expected, log *Log) ([]float64, error) {
	shown := progress.New(os.Stderr, "measuring similarity", len(questions))
	defer shown.Finish()
	fits := make([]float64, len(questions))
	for i, q := range questions {
		key := Key{Question: q.Question, Collection: o.Collections[0], Mode: "fit", Prompt: fmt.Sprintf("limit %d", o.Limit)}
		fit, err := Remembered(log, key, func() (float64, error) {
			found, err := searcher.Search(ctx, retrieve.Query{Text: q.Question, Collection: o.Collections[0], Limit: o.Limit})
			return min(max(retrieve.Fit(found.Passages), -allWords), allWords), err
		})
		if err != nil {
			return nil, fmt.Errorf("question %q: %w", q.Question, err)
		}
		fits[i] = fit
		shown.Show(i + 1)
	}
	return fits, nil
}

// refusalsAt returns, for every share of off-topic questions that can be refused,
// the lowest threshold in thousandths that does, and what it costs; and the same
// of the threshold in use. It is pure.
func refusalsAt(own, off []float64, inUse float64) []RefusalScore {
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
	at := func(least float64) RefusalScore { return RefusalScore{least, below(off, least), below(own, least)} }
	scores := []RefusalScore{at(inUse)}
	for _, target := range refusalTargets {
		last := off[int(math.Ceil(target*float64(len(off))))-1]
		if last >= allWords {
			break
		}
		scores = append(scores, at(math.Floor(last*1000+1)/1000))
	}
	return slices.CompactFunc(scores, func(a, b RefusalScore) bool { return a == b })
}
