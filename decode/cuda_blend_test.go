package decode

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/decode/model"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// cardOnCPU starts an engine over the small model of openOnCard on the CPU.
func cardOnCPU(t *testing.T, o Options, maps *lesskernels.Maps) *Engine {
	t.Helper()
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(cardModel.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	pool := cpu.NewPool(2)
	t.Cleanup(pool.Close)
	b, err := model.NewCPU(f, model.Int8, o.limits(), pool)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.UseMaps(maps); err != nil {
		t.Fatal(err)
	}
	e := newEngine(b, vocabulary{piece: func(token int32) []byte { return []byte{byte(' ' + token)} }, isEnd: func(int32) bool { return false }}, o, nil)
	t.Cleanup(e.Close)
	return e
}

// Passages that the CPU has read ahead serve a card, and those that a card has read serve the CPU. With all of
// their rows computed anew the answer is that of the prompt read whole; a card that was lost blends again.
func TestCardBlends(t *testing.T) {
	o := Options{CacheMemory: 1 << 22, MaxSequences: 2, Block: 32, StagingTokens: 256, Interval: 4, Passages: openStore(t), retryLost: time.Millisecond}
	e, d := openOnCard(t, o, cardMaps())
	host := cardOnCPU(t, o, cardMaps())
	b := e.backend.(*model.CUDA)
	e.recover = func() error {
		f, err := gguf.Parse(cardModel.Bytes())
		if err != nil {
			return err
		}
		return b.Recover(f)
	}
	remember := func(e *Engine, order []int, want int) {
		t.Helper()
		prompt, b := asked(order, 1)
		if n, err := e.Remember(context.Background(), prompt, *b, cache.Spec{}); n != want || err != nil {
			t.Fatalf("%d passages computed, want %d: %v", n, want, err)
		}
	}
	remember(host, []int{0, 1}, 2)
	remember(e, []int{0, 1, 2}, 1)
	request := func(name string, share float64) Request {
		prompt, b := asked([]int{2, 0}, 2)
		b.Share = share
		r := Request{Prompt: prompt, Blend: b, Cache: spec(t, name), Question: 20, MaxTokens: 4}
		if name != "full" {
			r.Budget.Tokens = 60
		}
		if share == 1 { // the cache must hold all of what is read
			r.Budget.Tokens = 200
		}
		return r
	}
	run := func(e *Engine, r Request) *Result {
		t.Helper()
		_, result, err := read(submit(t, e, context.Background(), r))
		if err != nil {
			t.Fatal(err)
		}
		if m := result.Memory; m.HeldBytes > m.BudgetBytes || m.KeptTokens+m.EvictedTokens != len(r.Prompt)+3 {
			t.Errorf("%s: %+v of %d tokens", r.Cache, m, len(r.Prompt)+3)
		}
		return result
	}
	for _, name := range []string{"sinks+less", "h2o+moment", "vote+less"} {
		for _, e := range []*Engine{e, host} {
			r := run(e, request(name, 0))
			if r.ReusedTokens != 120 || r.RecomputedTokens < 12 || r.RecomputedTokens > 24 {
				t.Errorf("%s: reused %d tokens, of which %d were computed", name, r.ReusedTokens, r.RecomputedTokens)
			}
		}
	}
	o.Passages = nil
	whole, _ := openOnCard(t, o, cardMaps())
	r := request("vote+less", 1)
	r.Prompt[len(r.Blend.Head)] = 50 // no kept beginning gives as much
	got := run(e, r)
	r.Blend = nil
	if want := run(whole, r); !slices.Equal(got.Tokens, want.Tokens) || got.ReusedTokens != 120 {
		t.Errorf("said %v of %d reused tokens, read whole %v", got.Tokens, got.ReusedTokens, want.Tokens)
	}
	for i, name := range []string{"sinks+less", "tova+less"} { // memories, read by the card and by the CPU
		r := request(name, 0)
		r.Blend.Memory, r.Prompt[len(r.Blend.Head)] = 0.4, int32(60+i)
		if n, err := []*Engine{e, host}[i].Remember(context.Background(), r.Prompt, *r.Blend, r.Cache); n != 2 || err != nil {
			t.Fatalf("%s: %d memories, %v", name, n, err)
		}
		if got := run(e, r); got.ReusedTokens != 120 || got.RecomputedTokens != 0 || got.Memory.AbsorbedTokens == 0 {
			t.Errorf("%s: reused %d, %+v", name, got.ReusedTokens, got.Memory)
		}
	}
	e.do(context.Background(), func(Backend) { d.Lose(errors.New("the bus fell silent")) })
	_, _, err := read(submit(t, e, context.Background(), request("full", 0)))
	notReady(t, err)
	until(t, "the card to be back", func() bool { return e.Ready() == nil })
	if r := run(e, request("full", 0)); r.ReusedTokens != 120 || r.RecomputedTokens == 0 {
		t.Errorf("after the card has come back, %d tokens were reused, of which %d were computed", r.ReusedTokens, r.RecomputedTokens)
	}
	e.do(context.Background(), func(Backend) { d.Lose(errors.New("the bus fell silent")) })
	prompt, another := asked([]int{3}, 1) // nobody asks: who computes a passage sees that the card is lost
	until(t, "a passage that nobody asked for", func() bool {
		_, err := e.Remember(context.Background(), prompt, *another, cache.Spec{})
		return err == nil
	})
	run(e, request("full", 0))
	if s := e.Stats(); s.Desk == 0 || s.Promised != 0 {
		t.Errorf("%+v", s)
	}
}
