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

// searchText is what to search for: the question, or for one that follows up
// on the turn before, the reader's wording of it that can be understood alone.
// reworded is "" where it is the question itself.
func (s *Service) searchText(ctx context.Context, p plan) (text, reworded string) {
	if len(p.turns) == 0 || !retrieve.FollowsUp(p.text) {
		return p.text, ""
	}
	last := p.turns[len(p.turns)-1]
	reworded = retrieve.Reworded(last, p.text, s.wording(ctx, last, p.text))
	if len(reworded) > MaxQuestionBytes {
		return p.text, ""
	}
	return reworded, reworded
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
