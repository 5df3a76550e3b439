package decode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
)

// asked is a prompt about some of four passages of 60 tokens, of the small model.
func asked(order []int, question uint64) (prompt []int32, b *Blend) {
	head := smallTokens(100, 12)
	b = &Blend{Tenant: "here", Head: head}
	prompt = slices.Clone(head)
	for i, n := range order {
		prompt = append(prompt, int32(i+1))
		b.Spans = append(b.Spans, [2]int{len(prompt), len(prompt) + 60})
		prompt = append(prompt, smallTokens(uint64(200+n), 60)...)
	}
	return append(prompt, smallTokens(300+question, 20)...), b
}

func openStore(t *testing.T) *passages.Store {
	t.Helper()
	s, err := passages.Open(passages.Options{Memory: 1 << 24, Disk: 1 << 24, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var blendedCaches = []struct {
	cache  string
	budget cache.Budget
}{
	{"full", cache.Budget{}}, {"sinks", cache.Budget{Tokens: 400}}, {"sinks+less", cache.Budget{Tokens: 100}}, {"streaming", cache.Budget{Tokens: 100}},
	{"h2o+moment", cache.Budget{Tokens: 100}}, {"tova", cache.Budget{Tokens: 100}}, {"snapkv", cache.Budget{Tokens: 100}}, {"vote+less", cache.Budget{Tokens: 100}},
}

// A passage that is asked about again is not read again, whatever the cache and in
// whatever order the passages come; what is held stays inside the plan.
func TestBlend(t *testing.T) {
	o := Options{Block: 32, Interval: 4, StagingTokens: 512}
	for _, test := range blendedCaches {
		t.Run(test.cache, func(t *testing.T) {
			o.Passages = openStore(t)
			e := openSmall(t, o, smallMaps())
			run := func(order []int, question uint64, share float64) *Result {
				t.Helper()
				prompt, b := asked(order, question)
				b.Share = share
				if share == 1 {
					prompt[len(b.Head)]++ // no kept beginning gives as much
				}
				_, r, err := read(submit(t, e, context.Background(), Request{Prompt: prompt, Blend: b, Cache: spec(t, test.cache), Budget: test.budget, Question: 20, MaxTokens: 8}))
				if err != nil {
					t.Fatal(err)
				}
				if r.Memory.HeldBytes > r.Memory.BudgetBytes || r.Memory.KeptTokens+r.Memory.EvictedTokens != len(prompt)+7 {
					t.Errorf("%+v of %d tokens", r.Memory, len(prompt)+7)
				}
				return r
			}
			if r := run([]int{0, 1, 2}, 1, 0); r.ReusedTokens != 0 {
				t.Errorf("%d tokens reused of a first prompt", r.ReusedTokens)
			}
			prompt, b := asked([]int{0, 1, 2}, 1)
			if n, err := e.Remember(context.Background(), prompt, *b, cache.Spec{}); n > 3 || err != nil {
				t.Fatalf("%d computed, %v", n, err)
			}
			r := run([]int{2, 3, 0}, 2, 0) // one is new
			if r.ReusedTokens != 120 || r.RecomputedTokens < 12 || r.RecomputedTokens > 24 || len(r.Tokens) != 8 {
				t.Errorf("reused %d tokens, of which %d were computed, and said %v", r.ReusedTokens, r.RecomputedTokens, r.Tokens)
			}
			if again := run([]int{2, 3, 0}, 2, 0); !slices.Equal(again.Tokens, r.Tokens) && again.ReusedTokens == r.ReusedTokens {
				t.Errorf("the same prompt said %v, and then %v", r.Tokens, again.Tokens)
			}
			if r := run([]int{0, 2}, 3, 1); r.ReusedTokens != 120 || r.RecomputedTokens != 120 {
				t.Errorf("all computed: reused %d, computed %d", r.ReusedTokens, r.RecomputedTokens)
			}
			if r := run([]int{5, 0, 6}, 2, 0); r.RecomputedTokens != 0 {
				t.Errorf("%d tokens computed anew of a prompt of which a third was known", r.RecomputedTokens)
			}
			if s := e.Stats(); s.Blended < 240 || s.Promised != 0 || s.Desk == 0 || s.Passages.MemoryBytes == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// With all rows computed the answer is that of a prompt read whole, where the cache
// has room for it.
func TestBlendOfAllRows(t *testing.T) {
	o := Options{Block: 32, StagingTokens: 512, Passages: openStore(t)}
	e := openSmall(t, o, smallMaps())
	prompt, b := asked([]int{1, 0, 3}, 4)
	if _, err := e.Remember(context.Background(), prompt, *b, cache.Spec{}); err != nil {
		t.Fatal(err)
	}
	b.Share = 1
	for i, name := range []string{"full", "sinks", "h2o+less", "tova", "vote", "snapkv+moment"} {
		prompt[len(b.Head)] = int32(50 + i) // no kept beginning gives as much
		r := Request{Prompt: prompt, Cache: spec(t, name), Budget: cache.Budget{Tokens: 300}, Question: 20, MaxTokens: 12}
		_, want, err := read(submit(t, openSmall(t, o, smallMaps()), context.Background(), r))
		if err != nil {
			t.Fatal(err)
		}
		r.Blend = b
		_, got, err := read(submit(t, e, context.Background(), r))
		if err != nil || !slices.Equal(got.Tokens, want.Tokens) || got.ReusedTokens != 180 {
			t.Errorf("%s: said %v, read whole %v; reused %d, %v", name, got.Tokens, want.Tokens, got.ReusedTokens, err)
		}
	}
}

// The next turn of a conversation goes on from what the turn before left, exactly, though all of its
// passages are known; one that parts from it early is put together.
func TestBeginningBeforeBlend(t *testing.T) {
	for _, test := range blendedCaches[:2] {
		testBeginningBeforeBlend(t, test.cache, test.budget)
	}
	testBeginningBeforeBlend(t, "vote+less", cache.Budget{Tokens: 100})
}

func testBeginningBeforeBlend(t *testing.T, name string, budget cache.Budget) {
	o := Options{Block: 32, StagingTokens: 512, Passages: openStore(t)}
	e := openSmall(t, o, smallMaps())
	first, b := asked([]int{0, 1, 2}, 1)
	request := func(prompt []int32, b *Blend) Request {
		return Request{Prompt: prompt, Blend: b, Cache: spec(t, name), Budget: budget, Question: 20, MaxTokens: 6}
	}
	if _, _, err := read(submit(t, e, context.Background(), request(first, b))); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Remember(context.Background(), first, *b, cache.Spec{}); err != nil {
		t.Fatal(err)
	}
	second := slices.Concat(first, smallTokens(400, 20))
	_, want, err := read(submit(t, openSmall(t, Options{Block: 32, StagingTokens: 512}, smallMaps()), context.Background(), request(second, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := read(submit(t, e, context.Background(), request(second, b)))
	if err != nil || !slices.Equal(got.Tokens, want.Tokens) || got.ReusedTokens < len(first)-20-seam || got.RecomputedTokens != 0 {
		t.Errorf("%s: said %v, read whole %v; reused %d of %d tokens, computed %d anew, %v", name, got.Tokens, want.Tokens, got.ReusedTokens, len(first), got.RecomputedTokens, err)
	}
	other := slices.Clone(second)
	other[80]++ // inside the second passage
	if _, got, err := read(submit(t, e, context.Background(), request(other, b))); err != nil || got.RecomputedTokens == 0 {
		t.Errorf("%s: another prompt computed %d of %d reused tokens anew, %v", name, got.RecomputedTokens, got.ReusedTokens, err)
	}
}

// Passages are computed while nobody asks, and found by their tenant alone.
func TestIdleTimeIsUsed(t *testing.T) {
	store := openStore(t)
	e := openSmall(t, Options{Block: 32, Passages: store}, nil)
	prompt, b := asked([]int{0, 1, 2}, 1)
	run := func(b *Blend) *Result {
		t.Helper()
		_, r, err := read(submit(t, e, context.Background(), Request{Prompt: prompt, Blend: b, MaxTokens: 2}))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	run(b)
	for began := time.Now(); e.Stats().Passages.Passages < 3; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("the passages were not computed")
		}
	}
	prompt[40]++ // no kept beginning gives as much
	if r := run(b); r.ReusedTokens < 120 {
		t.Errorf("reused %d tokens", r.ReusedTokens)
	}
	stranger := *b
	stranger.Tenant = "there"
	if f := e.find(Request{Prompt: prompt, Blend: &stranger}); len(f.known) != 0 || len(f.missing) != 3 {
		t.Errorf("another tenant finds %d tokens", f.stored)
	}
}

// A prompt that is given up while it is put together leaves nothing behind, and others
// go on beside it.
func TestBlendIsAbandoned(t *testing.T) {
	e := openSmall(t, Options{Block: 32, Passages: openStore(t)}, nil)
	prompt, b := asked([]int{0, 1, 2, 3}, 1)
	if _, err := e.Remember(context.Background(), prompt, *b, cache.Spec{}); err != nil {
		t.Fatal(err)
	}
	beside := submit(t, e, context.Background(), Request{Prompt: smallTokens(9, 40), MaxTokens: 60, IgnoreEnd: true})
	for i := range 6 {
		ctx, cancel := context.WithCancel(context.Background())
		chunks := submit(t, e, ctx, Request{Prompt: prompt, Blend: b, MaxTokens: 40})
		time.Sleep(time.Duration(i) * time.Millisecond)
		cancel()
		if _, r, err := read(chunks); err != nil || r.FinishReason != FinishCancelled && r.FinishReason != FinishLength {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if _, r, err := read(beside); err != nil || r.CompletionTokens != 60 {
		t.Errorf("the answer beside it: %+v, %v", r, err)
	}
	for began := time.Now(); e.Stats().Promised != 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%+v", e.Stats())
		}
	}
}

// What the store has lost since the request came is read with the prompt.
func TestBlendOfLostPassages(t *testing.T) {
	store := openStore(t)
	e := openSmall(t, Options{Block: 32, StagingTokens: 512, Passages: store}, nil)
	prompt, b := asked([]int{0, 1, 2}, 1)
	for _, name := range []string{"full", "h2o", "vote"} {
		if _, err := e.Remember(context.Background(), prompt, *b, cache.Spec{}); err != nil {
			t.Fatal(err)
		}
		r := Request{Prompt: prompt, Blend: b, Cache: spec(t, name), Budget: cache.Budget{Tokens: 300}, Question: 20, MaxTokens: 6}
		j, err := e.newJob(context.Background(), r)
		if err != nil || !j.blended() {
			t.Fatalf("not blended: %v", err)
		}
		if err := e.Forget(b.Tenant); err != nil {
			t.Fatal(err)
		}
		e.mu.Lock()
		e.waiting = append(e.waiting, j)
		j.unwatch = func() bool { return true }
		e.mu.Unlock()
		e.stir()
		_, got, err := read(j.out.chunks)
		if err != nil {
			t.Fatal(err)
		}
		r.Blend = nil
		_, want, err := read(submit(t, openSmall(t, Options{Block: 32, StagingTokens: 512}, nil), context.Background(), r))
		if err != nil || !slices.Equal(got.Tokens, want.Tokens) || got.ReusedTokens > 40 { // at most what a kept beginning gives
			t.Errorf("%s: said %v, read whole %v; reused %d, %v", name, got.Tokens, want.Tokens, got.ReusedTokens, err)
		}
		prompt[40]++ // no kept beginning gives more than passages
	}
}

// Passages of which there are memories are not read: their tokens' places are passed
// over, and what is held is a small part of them.
func TestPassageMemories(t *testing.T) {
	for _, name := range []string{"h2o+moment", "sinks+less", "tova+less", "corm+moment"} {
		e := openSmall(t, Options{Block: 32, Passages: openStore(t), Interval: 4}, smallMaps())
		s := spec(t, name)
		run := func(order []int, question uint64) *Result {
			t.Helper()
			prompt, b := asked(order, question)
			b.Memory = 0.4
			_, r, err := read(submit(t, e, context.Background(), Request{Prompt: prompt, Blend: b, Cache: s, Budget: cache.Budget{Tokens: 200}, MaxTokens: 8}))
			if err != nil {
				t.Fatal(err)
			}
			if r.Memory.KeptTokens+r.Memory.EvictedTokens != len(prompt)+7 || r.Memory.HeldBytes > r.Memory.BudgetBytes {
				t.Errorf("%s: %+v of %d tokens", name, r.Memory, len(prompt)+7)
			}
			return r
		}
		plain := run([]int{0, 1}, 1)
		prompt, b := asked([]int{0, 1}, 1)
		b.Memory = 0.4
		if _, err := e.Remember(context.Background(), prompt, *b, s); err != nil {
			t.Fatal(err)
		}
		r := run([]int{1, 2, 0}, 2)
		if r.ReusedTokens != 120 || r.RecomputedTokens != 0 || len(r.Tokens) != 8 || r.Memory.EvictedTokens < 60 || r.Memory.AbsorbedTokens == 0 {
			t.Errorf("%s: reused %d, %+v", name, r.ReusedTokens, r.Memory)
		}
		if plain.ReusedTokens != 0 || plain.Memory.EvictedTokens != 0 {
			t.Errorf("%s: read plainly: %+v", name, plain.Memory)
		}
		if again := run([]int{1, 2, 0}, 2); !slices.Equal(again.Tokens, r.Tokens) && again.ReusedTokens == r.ReusedTokens {
			t.Errorf("%s: said %v, and then %v", name, r.Tokens, again.Tokens)
		}
	}
}

func TestBlendRefusals(t *testing.T) {
	e := openSmall(t, Options{Passages: openStore(t)}, nil)
	prompt, good := asked([]int{0, 1}, 1)
	for name, test := range map[string]struct {
		spoil func(r *Request, b *Blend)
		want  string
	}{
		"cascade": {func(r *Request, _ *Blend) { r.Cache.Policy = "cascade" }, "chunks of its own"},
		"memory":  {func(_ *Request, b *Blend) { b.Memory = 1 }, "outside"},
		"state":   {func(_ *Request, b *Blend) { b.Memory = 0.1 }, "needs a state"},
		"share":   {func(_ *Request, b *Blend) { b.Share = 1.5 }, "share"},
		"head":    {func(_ *Request, b *Blend) { b.Head = []int32{-1} }, "vocabulary"},
		"overlap": {func(_ *Request, b *Blend) { b.Spans = [][2]int{{10, 50}, {49, 60}} }, "passage 1"},
		"empty":   {func(_ *Request, b *Blend) { b.Spans = [][2]int{{10, 10}} }, "passage 0"},
		"beyond":  {func(r *Request, b *Blend) { b.Spans = [][2]int{{10, len(r.Prompt) + 1}} }, "passage 0"},
	} {
		r, b := Request{Prompt: prompt, MaxTokens: 1}, *good
		test.spoil(&r, &b)
		r.Blend = &b
		_, err := e.Submit(context.Background(), r)
		var invalid *InvalidError
		if !errors.As(err, &invalid) || invalid.Field != "blend" || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := openSmall(t, Options{}, nil).Remember(context.Background(), prompt, *good, cache.Spec{}); err == nil {
		t.Error("an engine without a store remembers")
	}
	if got := fmt.Sprint(e.Stats().Running); got != "0" {
		t.Errorf("%s run", got)
	}
}

// A memory with states of LESS belongs to the cache whose gate it was made with.
func TestMemoriesOfPolicies(t *testing.T) {
	e := &Engine{states: "maps"}
	b := &Blend{Memory: 0.05}
	h2o, sinks := e.kind(b, spec(t, "h2o+less")), e.kind(b, spec(t, "sinks+less"))
	if h2o == sinks {
		t.Errorf("%q for two policies", h2o)
	}
	if h2o, sinks := e.kind(b, spec(t, "h2o+moment")), e.kind(b, spec(t, "sinks+moment")); h2o != sinks {
		t.Errorf("%q and %q: moments are those of every policy", h2o, sinks)
	}
}
