package answer

import (
	"context"
	"strings"

	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/retrieve"
)

// rewordTokens are the most that the wording of a question may have.
const rewordTokens = 64

// find searches for a question. Where nothing is near enough to answer one that follows up on the turn before, the
// reader words it so that it can be understood alone, and that is searched for. searched is what was, "" where it is
// the question itself.
func (s *Service) find(ctx context.Context, p plan) (found []retrieve.Passage, searched string, err error) {
	q, searched := p.query()
	results, err := s.Searcher.Search(ctx, q)
	if err != nil || q.After == "" || retrieve.Relevant(results.Passages, s.Defaults.MinSimilarity) {
		return results.Passages, searched, err
	}
	last := p.turns[len(p.turns)-1]
	wording := retrieve.Reworded(last, p.text, s.wording(ctx, last, p.text))
	if wording == "" || len(wording) > MaxQuestionBytes {
		return results.Passages, searched, nil
	}
	q.Text, q.After = wording, ""
	results, err = s.Searcher.Search(ctx, q)
	return results.Passages, wording, err
}

// query is what is searched for first. A question that follows up on the turn before is searched for together with
// the question there: searched is both, "" where it is the question alone. A place has at most as many tokens as a later
// turn may add: wider ones leave out others, and what a later turn adds should be little.
func (p plan) query() (q retrieve.Query, searched string) {
	q = retrieve.Query{Text: p.text, Collection: p.collection, Limit: p.limit, Widen: min(max(1, p.context/followShare), retrieve.MaxWiden)}
	if len(p.turns) == 0 {
		return q, ""
	}
	if !retrieve.FollowsUp(p.text) {
		return q, ""
	}
	before := p.turns[len(p.turns)-1].Question
	if joined := retrieve.Joined(before, p.text); len(joined) <= MaxQuestionBytes {
		q.After, searched = before, joined
	}
	return q, searched
}

// wording asks the reader; a failure is an empty wording, since there is
// another way to search.
func (s *Service) wording(ctx context.Context, last retrieve.Turn, question string) string {
	tokens, err := s.encode(retrieve.Rewriting(last, question))
	if err != nil || len(tokens)+rewordTokens > s.Engine.Info().Context {
		return ""
	}
	full, err := cache.ParseSpec(cache.Full)
	if err != nil {
		return ""
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	chunks, err := s.Engine.Submit(ctx, decode.Request{Prompt: tokens, Cache: full, MaxTokens: rewordTokens, Stop: retrieve.RewriteStops})
	if err != nil {
		return ""
	}
	var text strings.Builder
	for chunk := range chunks {
		text.WriteString(chunk.Text)
	}
	return storable(text.String())
}
