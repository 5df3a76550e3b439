package decode

import (
	"context"
	"slices"
	"testing"
)

// Answers whose caches pack what is no longer recent are the same side by side, while others are cancelled, and behind a kept
// beginning of their prompt, as alone; and they give their memory back.
func TestCardPacks(t *testing.T) {
	e, _ := openOnCard(t, Options{CacheMemory: 1 << 22, MaxSequences: 4, Block: 32, Interval: 8, StagingTokens: 260, HeadWeights: []float32{1, 0.2}}, cardMaps())
	var requests []Request
	for i, name := range []string{"full+kivi4+think", "vote+less+think26", "h2o+kivi2+moment"} {
		r := Request{Prompt: smallTokens(4+uint64(i), 160+12*i), Question: 9, MaxTokens: 10, Cache: spec(t, name)}
		if i > 0 {
			r.Budget.Tokens = 150
		}
		requests = append(requests, r)
	}
	var alone []*Result
	for i, r := range requests {
		one := answers(t, e, r)[0]
		alone = append(alone, one)
		if m := one.Memory; m.HeldBytes > m.BudgetBytes || i > 0 && m.EvictedTokens == 0 || len(one.Tokens) != 10 {
			t.Errorf("%s: %+v for %d tokens", r.Cache, m, len(one.Tokens))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	endless := requests[2]
	endless.MaxTokens = 1 << 20
	stopped := submit(t, e, ctx, endless)
	until(t, "it to run", func() bool { return e.Stats().Running == 1 })
	var streams []<-chan Chunk
	for _, r := range requests {
		streams = append(streams, submit(t, e, context.Background(), r))
	}
	for i, stream := range streams {
		_, got, err := read(stream)
		if err != nil || !slices.Equal(got.Tokens, alone[i].Tokens) || got.Memory != alone[i].Memory || got.ReusedTokens == 0 {
			t.Errorf("%s: %+v side by side, %v; %+v alone", requests[i].Cache, got, err, alone[i])
		}
	}
	cancel()
	if _, r, err := read(stopped); err != nil || r.FinishReason != FinishCancelled {
		t.Errorf("the answer that was cancelled: %+v, %v", r, err)
	}
	until(t, "memory to be free", func() bool { return e.Stats().Promised == 0 })
}
