package decode

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"lessrag/decode/cache"
)

// planned is the plan of letters' sequences.
func planned(t *testing.T, spec cache.Spec, tokens int) cache.Plan {
	t.Helper()
	p, err := cache.NewPlan(spec, cache.Budget{Tokens: tokens}, (&letters{context: 1000}).Shape(spec.Policy))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFindPrefix(t *testing.T) {
	full, sinks, small := planned(t, cache.Spec{}, 100), planned(t, cache.Spec{Policy: cache.Sinks}, 60), planned(t, cache.Spec{Policy: cache.Sinks}, 12)
	tokens := func(n int, others ...int32) []int32 { return append(make([]int32, n), others...) }
	end := func(n int) int { return n - n%8 }
	prefix1 := func(plan cache.Plan, tokens []int32) *prefix { return &prefix{plan: plan, tokens: tokens} }
	for _, test := range []struct {
		name      string
		kept      prefixes
		prompt    []int32
		plan      cache.Plan
		n, shared int
	}{
		{"none kept", nil, tokens(40), full, 0, 0},
		{"another beginning", prefixes{prefix1(full, tokens(0, 1, 0, 0))}, tokens(40), full, 0, 0},
		{"the whole prefix", prefixes{prefix1(full, tokens(32))}, tokens(40), full, 32, 32},
		{"as much of it as both begin with, to the end of a block", prefixes{prefix1(full, tokens(21, 3, 3, 3))}, tokens(40), full, 16, 21},
		{"less than a block", prefixes{prefix1(full, tokens(7, 3, 3, 3))}, tokens(40), full, 0, 7},
		{"under another plan, where neither has evicted", prefixes{prefix1(full, tokens(32))}, tokens(40), sinks, 32, 32},
		{"and up to where it would evict", prefixes{prefix1(full, tokens(32))}, tokens(40), small, 8, 32},
		{"evicted, under the same plan", prefixes{prefix1(small, tokens(32))}, tokens(40), small, 32, 32},
		{"evicted, under another plan", prefixes{prefix1(small, tokens(32))}, tokens(40), full, 0, 32},
		{"evicted, and not all of it is shared", prefixes{prefix1(small, tokens(24, 5, 5, 5, 5, 5, 5, 5, 5))}, tokens(40), small, 0, 24},
		{"the longest of several", prefixes{prefix1(full, tokens(16)), prefix1(full, tokens(32)), prefix1(full, tokens(24))}, tokens(40), full, 32, 32},
	} {
		p, n, shared := test.kept.find(test.prompt, test.plan, end)
		if n != test.n || shared != test.shared || (p != nil) != (n > 0) {
			t.Errorf("%s: %d of %d shared tokens, want %d of %d", test.name, n, shared, test.n, test.shared)
		}
	}
}

func TestKeepPoints(t *testing.T) {
	full, small := planned(t, cache.Spec{}, 100), planned(t, cache.Spec{Policy: cache.Sinks}, 20)
	end := func(n int) int { return n - n%8 }
	for _, test := range []struct {
		name                 string
		most, reused, shared int
		plan                 cache.Plan
		want                 []int
	}{
		{"shorter than a block", 7, 0, 0, full, nil},
		{"the last block's end", 45, 0, 0, full, []int{40}},
		{"which was reused", 45, 40, 40, full, nil},
		{"before the first eviction too", 45, 0, 0, small, []int{16, 40}},
		{"and where another prompt goes its own way", 45, 0, 33, small, []int{16, 32, 40}},
	} {
		got := keepPoints(test.most, test.reused, test.shared, test.plan, end)
		if len(got)+len(test.want) > 0 && !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Prompts that begin the same are fed what is new, and kept beginnings never take
// memory from a request.
func TestPrefixesGiveWay(t *testing.T) {
	l := &letters{}
	e := l.engine(t, Options{CacheMemory: 100 * 100, Block: 8})
	ask := func(prompt []int32, maxTokens int) *Result {
		t.Helper()
		_, r, err := read(submit(t, e, context.Background(), Request{Prompt: prompt, MaxTokens: maxTokens}))
		if err != nil {
			t.Fatal(err)
		}
		if s := e.Stats(); s.Promised != 0 || s.Kept < 0 || s.Kept > s.CacheMemory {
			t.Fatalf("afterwards %+v", s)
		}
		return r
	}
	a, b := slices.Repeat([]int32{1}, 37), slices.Repeat([]int32{2}, 29)
	if r := ask(a, 3); r.ReusedTokens != 0 || r.Text != "cde" {
		t.Errorf("the first: %+v", r)
	}
	if s := e.Stats(); s.Kept != 32*100 {
		t.Errorf("%d bytes kept for 32 tokens", s.Kept)
	}
	if r := ask(append(slices.Clone(a), 7, 8), 3); r.ReusedTokens != 32 || r.PromptTokens != 39 || r.Text != "jkl" {
		t.Errorf("the same beginning: %+v", r)
	}
	if r := ask(a[:33], 3); r.ReusedTokens != 32 || r.Text != "cde" {
		t.Errorf("a shorter one: %+v", r)
	}
	if r := ask(a[:32], 3); r.ReusedTokens != 24 || r.Text != "cde" {
		t.Errorf("the last token must be fed: %+v", r)
	}
	ask(b, 3)
	if s := e.Stats(); s.Kept != (32+24)*100 || s.Reused != 88 {
		t.Errorf("two beginnings: %+v", s)
	}
	// 60 of the 100 tokens' bytes: the older beginning gives way, the other stays.
	ask(slices.Repeat([]int32{3}, 7), 53)
	if s := e.Stats(); s.Kept != 24*100 {
		t.Errorf("after a large request %d bytes are kept", s.Kept)
	}
	if r := ask(b, 3); r.ReusedTokens != 24 {
		t.Errorf("the younger beginning: %+v", r)
	}
	// All of it: nothing stays but what fits afterwards.
	if r := ask(a, 63); r.ReusedTokens != 0 || r.CompletionTokens == 0 {
		t.Errorf("the whole memory: %+v", r)
	}
	if s := e.Stats(); s.Kept > 0 && s.Kept != 32*100 {
		t.Errorf("afterwards %+v", s)
	}
}
