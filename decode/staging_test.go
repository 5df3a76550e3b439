package decode

import (
	"context"
	"slices"
	"testing"

	"lessrag/decode/cache"
)

// With a budget that holds the whole prompt, a cache that asks a question is the
// full cache: what is staged and taken over is all of it. A budget below that
// keeps what it says, in its bytes.
func TestStaging(t *testing.T) {
	e := openSmall(t, Options{Block: 64, Interval: 4, StagingTokens: 512}, smallMaps())
	ids := smallTokens(2, 2000)
	ask := func(prompt []int32, name string, budget int) *Result {
		t.Helper()
		_, r, err := read(submit(t, e, context.Background(), Request{
			Prompt: prompt, Cache: spec(t, name), Budget: cache.Budget{Tokens: budget}, Question: 16, MaxTokens: 10}))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	full := ask(ids[:400], "full", 0)
	for _, name := range []string{"snapkv", "vote", "snapkv+moment", "vote+less"} {
		if r := ask(ids[:400], name, 500); !slices.Equal(r.Tokens, full.Tokens) || r.Memory.EvictedTokens != 0 {
			t.Errorf("%s: %v with %+v, a full cache says %v", name, r.Tokens, r.Memory, full.Tokens)
		}
		for _, prompt := range [][]int32{ids[:400], ids[:512], ids[:513], ids[:1700]} {
			r := ask(prompt, name, 90)
			m := r.Memory
			if m.HeldBytes > m.BudgetBytes || m.KeptTokens < 85 || m.KeptTokens > 95 || m.KeptTokens+m.EvictedTokens < len(prompt) {
				t.Errorf("%s, %d tokens: %+v", name, len(prompt), m)
			}
		}
	}
	if s := e.Stats(); s.Staging == 0 || s.Promised != 0 {
		t.Errorf("afterwards %+v", s)
	}
}

// A prompt in chunks is read alike whatever the caches beside it do, and one that
// is cancelled inside the staging leaves it to the next.
func TestStagingIsGivenBack(t *testing.T) {
	e := openSmall(t, Options{Block: 64, StagingTokens: 512}, nil)
	ids := smallTokens(2, 2000)
	request := Request{Prompt: ids[:1200], Cache: spec(t, "vote"), Budget: cache.Budget{Tokens: 90}, Question: 16, MaxTokens: 6}
	ctx, cancel := context.WithCancel(context.Background())
	cancelled := submit(t, e, ctx, request)
	next := submit(t, e, context.Background(), request)
	for c := range cancelled {
		if c.Prefilled > 600 {
			cancel()
		}
	}
	cancel()
	_, r, err := read(next)
	if err != nil || len(r.Tokens) != 6 {
		t.Fatalf("%+v, %v", r, err)
	}
	_, alone, err := read(submit(t, openSmall(t, Options{Block: 64, StagingTokens: 512}, nil), context.Background(), request))
	if err != nil || !slices.Equal(alone.Tokens, r.Tokens) {
		t.Errorf("%v after a cancelled one, %v without", r.Tokens, alone.Tokens)
	}
}

// StagingBytes is what the engine takes for staged prompts, and 0 for a cache that stages none.
func TestStagingBytes(t *testing.T) {
	e := openSmall(t, Options{Block: 64, Interval: 4, StagingTokens: 512}, nil)
	plan := func(name string) cache.Plan {
		p, err := e.Plan(spec(t, name), cache.Budget{Tokens: 60})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if bytes, err := e.StagingBytes(plan("sinks")); bytes != 0 || err != nil {
		t.Errorf("sinks: %d, %v", bytes, err)
	}
	bytes, err := e.StagingBytes(plan("vote"))
	if err != nil {
		t.Fatal(err)
	}
	answers(t, e, Request{Prompt: smallTokens(3, 400), Question: 16, Cache: spec(t, "vote"), Budget: cache.Budget{Tokens: 60}, MaxTokens: 1})
	if taken := e.Stats().Staging; bytes != taken || taken == 0 {
		t.Errorf("vote: %d bytes are planned, %d were taken", bytes, taken)
	}
}
