package decode

import (
	"context"
	"slices"
	"testing"

	"lessrag/decode/cache"
)

// A prompt that goes on from a kept beginning answers, for every cache, what it
// answers in an engine that has kept none; and says how much it did not feed.
func TestReuse(t *testing.T) {
	o := Options{Block: 32, Interval: 4, StagingTokens: 256}
	ids := smallTokens(1, 2000)
	head := ids[:200]
	with := func(n int) []int32 { return slices.Concat(head, ids[1000+n:1000+2*n]) }
	for _, test := range []struct {
		cache  string
		budget cache.Budget
		reused [3]int // after head+60, head+60 again, head+90
	}{
		{"full", cache.Budget{}, [3]int{0, 256, 192}},
		{"sinks", cache.Budget{Tokens: 300}, [3]int{0, 256, 192}},
		{"sinks+less", cache.Budget{Tokens: 100}, [3]int{0, 256, 96}},
		{"streaming", cache.Budget{Tokens: 100}, [3]int{0, 256, 96}},
		{"h2o+moment", cache.Budget{Tokens: 100}, [3]int{0, 256, 0}},
		{"tova", cache.Budget{Tokens: 300}, [3]int{0, 256, 0}},
		{"snapkv", cache.Budget{Tokens: 100}, [3]int{0, 224, 192}},
		{"vote+less", cache.Budget{Tokens: 100}, [3]int{0, 224, 192}},
		{"full+kivi4", cache.Budget{}, [3]int{0, 224, 192}},
		{"full+kivi2+think", cache.Budget{}, [3]int{0, 224, 192}},
		{"sinks+less+kivi4", cache.Budget{Tokens: 200}, [3]int{0, 256, 128}},
		{"sinks+less+kivi4+think", cache.Budget{Tokens: 200}, [3]int{0, 224, 192}},
		{"h2o+moment+kivi2+think", cache.Budget{Tokens: 180}, [3]int{0, 224, 0}},
	} {
		t.Run(test.cache, func(t *testing.T) {
			request := func(prompt []int32) Request {
				return Request{Prompt: prompt, Cache: spec(t, test.cache), Budget: test.budget, Question: 12, MaxTokens: 8}
			}
			requests := []Request{request(with(60)), request(with(60)), request(with(90))}
			e := openSmall(t, o, smallMaps())
			for i, r := range requests {
				_, got, err := read(submit(t, e, context.Background(), r))
				if err != nil {
					t.Fatal(err)
				}
				_, want, err := read(submit(t, openSmall(t, o, smallMaps()), context.Background(), r))
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got.Tokens, want.Tokens) || got.Memory != want.Memory {
					t.Errorf("request %d: %v and %+v, fed anew %v and %+v", i, got.Tokens, got.Memory, want.Tokens, want.Memory)
				}
				if got.ReusedTokens != test.reused[i] || want.ReusedTokens != 0 {
					t.Errorf("request %d: reused %d tokens, want %d", i, got.ReusedTokens, test.reused[i])
				}
			}
			// Two prompts have shown now where they part: the next one finds a copy there.
			third := request(slices.Concat(head, ids[1500:1530]))
			if _, r, err := read(submit(t, e, context.Background(), third)); err != nil || r.ReusedTokens != 192 {
				t.Errorf("a third prompt with this beginning reused %d tokens, %v", r.ReusedTokens, err)
			}
		})
	}
}
