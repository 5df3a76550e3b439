package model

import (
	"testing"

	"lessrag/decode/cache"
)

// A text's own tokens are scored with logits that are all exact, those of unlikely tokens
// too, which an answer's next token does without.
func TestScoresAreExact(t *testing.T) {
	c := newCPU(t, readerPath(), Int8, Limits{Tokens: 64, Sequences: 1})
	vocab := c.config.Vocab
	tokens, targets := make([]int32, scoreRows/2), make([]int32, scoreRows/2)
	for i := range tokens {
		tokens[i], targets[i] = int32(i*31%vocab), int32(i*53%vocab)
	}
	scores := forward(t, c, Work{Sequence: newSequence(t, c, "full", cache.Budget{}), Tokens: tokens, Prompt: true, Targets: targets}).Scores
	refined := false
	c.unembed(len(tokens)) // of the same rows, which lie in normed
	for i, score := range scores {
		refined = refined || NewScore(rowOf(c.out, i, vocab), targets[i]) != score
	}
	c.unembedAll(len(tokens))
	for i, score := range scores {
		if want := NewScore(rowOf(c.out, i, vocab), targets[i]); score != want {
			t.Fatalf("position %d: %+v, want %+v", i, score, want)
		}
	}
	if !refined {
		t.Error("every logit is likely here: nothing is tested")
	}
}
