package decode

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"lessrag/decode/cache"
)

// Every cache that this build has, at other lengths and budgets, all in one batch,
// some still reading their prompts while others answer: the tokens of each alone.
func TestAloneAndInCompany(t *testing.T) {
	o := Options{Block: 32, Interval: 5, StagingTokens: 256, MaxSequences: 64}
	e := openSmall(t, o, smallMaps())
	var requests []Request
	for _, policy := range []string{"full", "sinks", "streaming", "h2o", "tova", "snapkv", "vote", "corm", "elastic"} {
		for _, state := range []string{"", "+less", "+moment", "+kivi4", "+kivi2+think", "+less+kivi4+think"} {
			if _, err := cache.ParseSpec(policy + state); err != nil {
				continue
			}
			i := len(requests)
			r := Request{Prompt: smallTokens(uint64(i), 7+(i*137)%600), Cache: spec(t, policy+state), MaxTokens: 20 + (i*31)%60, Question: 5}
			if policy != "full" {
				r.Budget = cache.Budget{Tokens: 40 + (i*17)%50}
				if r.Cache.Packs() {
					r.Budget.Tokens += 140
				}
			}
			requests = append(requests, r)
		}
	}
	together := answers(t, e, requests...)
	for i, r := range requests {
		alone := answers(t, openSmall(t, o, smallMaps()), r)[0]
		if !slices.Equal(alone.Tokens, together[i].Tokens) || alone.Memory != together[i].Memory {
			t.Errorf("%s, %d prompt tokens: %v alone, %v in company", r.Cache, len(r.Prompt), alone.Tokens, together[i].Tokens)
		}
		m := alone.Memory
		if m.HeldBytes > m.BudgetBytes || m.KeptTokens == 0 || m.KeptTokens+m.EvictedTokens < len(r.Prompt) {
			t.Errorf("%s, %d prompt tokens: %+v", r.Cache, len(r.Prompt), m)
		}
	}
}

// answers submits requests at once and reads them to their ends.
func answers(t *testing.T, e *Engine, requests ...Request) []*Result {
	t.Helper()
	var streams []<-chan Chunk
	for _, r := range requests {
		streams = append(streams, submit(t, e, context.Background(), r))
	}
	var results []*Result
	for i, stream := range streams {
		_, r, err := read(stream)
		if err != nil {
			t.Fatal(fmt.Errorf("request %d, %s: %w", i, requests[i].Cache, err))
		}
		results = append(results, r)
	}
	return results
}

// A cache that numbers its tokens anew goes on beyond the model's context, in the
// prompt and in the answer, in the bytes of its plan.
func TestBeyondTheContext(t *testing.T) {
	e := openSmall(t, Options{}, smallMaps())
	for _, name := range []string{"streaming", "streaming+less", "streaming+moment"} {
		r := answers(t, e, Request{Prompt: smallTokens(3, 32000), Cache: spec(t, name), Budget: cache.Budget{Tokens: 256}, MaxTokens: 50})[0]
		m := r.Memory
		if r.CompletionTokens != 50 || m.KeptTokens+m.EvictedTokens != 32000+49 {
			t.Errorf("%s: %d tokens, %+v", name, r.CompletionTokens, m)
		}
		short := answers(t, e, Request{Prompt: smallTokens(3, 600), Cache: spec(t, name), Budget: cache.Budget{Tokens: 256}, MaxTokens: 50})[0]
		if short.Memory.BudgetBytes != m.BudgetBytes || m.HeldBytes > m.BudgetBytes {
			t.Errorf("%s: %d bytes of %d after 32,000 tokens, %d planned for 600", name, m.HeldBytes, m.BudgetBytes, short.Memory.BudgetBytes)
		}
		report, err := e.Perplexity(context.Background(), smallTokens(4, 20000), PerplexityOptions{
			Window: 20000, Block: 64, From: 15000, Cache: spec(t, name), Budget: cache.Budget{Tokens: 128}})
		if err != nil || report.Tokens != 4999 || report.BytesPerSequence == 0 {
			t.Errorf("%s: perplexity %+v, %v", name, report, err)
		}
	}
	if _, err := e.Submit(context.Background(), Request{Prompt: smallTokens(3, 8192), Cache: spec(t, "sinks")}); err == nil {
		t.Error("a cache with original positions was let beyond the context")
	}
}
