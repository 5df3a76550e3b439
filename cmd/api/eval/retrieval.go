package eval

import (
	"context"
	"fmt"
	"os"

	"lessrag/cmd/api/progress"
	"lessrag/retrieve"
)

// RetrievalScore is one way to search one collection.
type RetrievalScore struct {
	Collection string `json:"collection"`
	Mode       string `json:"mode"`
	retrieve.RetrievalScores
}

// retrieval finds the rank of every question's section in every configuration.
func (o SetOptions) retrieval(ctx context.Context, searcher *retrieve.Searcher, questions []retrieve.Expected, log *Log) ([]RetrievalScore, error) {
	var scores []RetrievalScore
	for _, collection := range o.Collections {
		for _, mode := range o.Modes {
			shown := progress.New(os.Stderr, fmt.Sprintf("searching %s, %s", collection, mode), len(questions))
			ranks := make([]int, len(questions))
			for i, q := range questions {
				key := Key{Question: q.Question, Source: q.Source, Section: q.Section, Collection: collection, Mode: mode, Prompt: fmt.Sprintf("widen %d", o.Widen)}
				rank, err := Remembered(log, key, func() (int, error) {
					found, err := searcher.Search(ctx, retrieve.Query{Text: q.Question, Collection: collection, Mode: mode, Limit: retrieve.DefaultLimit, Widen: o.Widen})
					return q.Rank(found.Passages), err
				})
				if err != nil {
					return nil, fmt.Errorf("question %d: %w", i+1, err)
				}
				ranks[i] = rank
				shown.Show(i + 1)
			}
			shown.Finish()
			scores = append(scores, RetrievalScore{collection, mode, retrieve.ScoreRanks(ranks)})
		}
	}
	return scores, nil
}
