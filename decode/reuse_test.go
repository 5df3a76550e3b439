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

// Where a cache holds the whole prompt, it goes on from inside a block too, and what follows is as
// likely as where it was read whole, bit for bit.
func TestSeams(t *testing.T) {
	o := Options{Block: 64, StagingTokens: 512}
	ids := smallTokens(1, 2000)
	for _, test := range []struct {
		cache         string
		budget        cache.Budget
		shared, reuse int
	}{
		{"full", cache.Budget{}, 184, 176},
		{"full", cache.Budget{}, 191, 176},
		{"full", cache.Budget{}, 60, 0}, // less than a block
		{"sinks", cache.Budget{Tokens: 400}, 184, 176},
		{"sinks", cache.Budget{Tokens: 200}, 184, 128}, // which will evict
		{"vote+less", cache.Budget{Tokens: 100}, 184, 176},
		{"full+kivi4", cache.Budget{}, 100, 96},
	} {
		request := func(rest int) Request {
			return Request{Prompt: slices.Concat(ids[:test.shared], ids[rest:rest+130]), Cache: spec(t, test.cache), Budget: test.budget, Question: 12, Force: ids[1900:1906]}
		}
		e := openSmall(t, o, smallMaps())
		if _, _, err := read(submit(t, e, context.Background(), request(500))); err != nil {
			t.Fatal(err)
		}
		_, got, err := read(submit(t, e, context.Background(), request(700)))
		if err != nil {
			t.Fatal(err)
		}
		_, want, err := read(submit(t, openSmall(t, o, smallMaps()), context.Background(), request(700)))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Scores, want.Scores) || got.Memory != want.Memory || got.ReusedTokens != test.reuse {
			t.Errorf("%s, %d tokens shared: reused %d, want %d; scores %v, want %v", test.cache, test.shared, got.ReusedTokens, test.reuse, got.Scores, want.Scores)
		}
	}
}
