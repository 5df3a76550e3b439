package decode

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/decode/gguf/gguftest"
	"lessrag/decode/model"
)

// Answers side by side on three cards are those of one card; all cards are used, and what one keeps of a prompt is found
// there again.
func TestCardsAnswer(t *testing.T) {
	o := Options{CacheMemory: 1 << 22, MaxSequences: 2, Block: 8, Interval: 3, StagingTokens: 64, HeadWeights: []float32{1, 0.2}}
	random := rand.New(rand.NewPCG(3, 5))
	var requests []Request
	for i := range 6 {
		r := Request{MaxTokens: 4, Cache: spec(t, []string{"full", "streaming+less", "vote+less"}[i%3]), Question: 5,
			Sampling: []Sampling{{}, {Temperature: 0.8, TopK: 5, Seed: 3}}[i%2]}
		if i%3 > 0 {
			r.Budget.Tokens = 40
		}
		for range 42 + i {
			r.Prompt = append(r.Prompt, random.Int32N(gguftest.Vocab))
		}
		requests = append(requests, r)
	}
	one, _ := openOnCard(t, o, cardMaps())
	e, _ := openOnCards(t, 3, o, cardMaps())
	want, got := answers(t, one, requests...), answers(t, e, requests...)
	again := answers(t, e, requests...)
	reused := 0
	for i, w := range want {
		if !slices.Equal(got[i].Tokens, w.Tokens) || !slices.Equal(again[i].Tokens, w.Tokens) || got[i].Memory != w.Memory {
			t.Errorf("answer %d: %v and %v on three cards, %v on one", i, got[i].Tokens, again[i].Tokens, w.Tokens)
		}
		reused += again[i].ReusedTokens
	}
	if reused == 0 {
		t.Error("no beginning of a prompt was found again")
	}
	until(t, "memory to be free", func() bool { return e.Stats().Promised == 0 })
	var sum Stats
	for i, d := range e.Devices() {
		if d.Tokens == 0 || d.Prompt == 0 || d.Lost != nil || d.Slots != 2 {
			t.Errorf("card %d: %+v", i, d)
		}
		sum.add(d.Stats)
	}
	if s := e.Stats(); s != sum || s.Slots != 6 || s.CacheMemory != 3<<22 || s.Tokens != 2*6*4 {
		t.Errorf("together %+v, of each %+v", s, sum)
	}
}

// A further turn goes on where the conversation was read, though another card has less to do.
func TestCardsKeepConversations(t *testing.T) {
	e, _ := openOnCards(t, 2, Options{CacheMemory: 1 << 22, MaxSequences: 4, Block: 16}, nil)
	running, cancel := context.WithCancel(context.Background())
	defer cancel()
	endless := func(budget int) <-chan Chunk {
		return submit(t, e, running, Request{Prompt: smallTokens(1, 10), MaxTokens: 1 << 20, Cache: spec(t, "streaming"), Budget: cache.Budget{Tokens: budget}})
	}
	busy := endless(20)
	until(t, "the first card to be busy", func() bool { return e.Devices()[0].Tokens > 0 })
	talk := Request{Prompt: smallTokens(7, 90), MaxTokens: 3, Cache: spec(t, "full")}
	first := answers(t, e, talk)[0]
	if e.Devices()[1].Tokens != 3 {
		t.Fatalf("the second card gave %d tokens, want the answer's 3", e.Devices()[1].Tokens)
	}
	busier := endless(21)
	until(t, "more to be promised of the second card", func() bool { d := e.Devices(); return d[1].Promised > d[0].Promised })
	talk.Prompt = slices.Concat(talk.Prompt, first.Tokens, smallTokens(8, 20))
	if r := answers(t, e, talk)[0]; r.ReusedTokens < 80 || e.Devices()[1].Reused != int64(r.ReusedTokens) {
		t.Errorf("%d tokens were reused, %d of them on the second card", r.ReusedTokens, e.Devices()[1].Reused)
	}
	cancel()
	for _, stream := range []<-chan Chunk{busy, busier} {
		read(stream)
	}
}

// Of two cards that are full, the one that is lost ends its answers; what waits runs on the other, and the service is
// ready. When both are lost nothing is; when one is back, what it is asked has the answer of before.
func TestCardsLost(t *testing.T) {
	o := Options{CacheMemory: 1 << 22, MaxSequences: 1, MaxQueue: 8, Block: 16, retryLost: time.Millisecond}
	e, cards := openOnCards(t, 2, o, cardMaps())
	long := Request{Prompt: smallTokens(5, 40), MaxTokens: 1 << 20, Cache: spec(t, "streaming+less")}
	long.Budget.Tokens = 12
	short := long
	short.MaxTokens = 6
	want := answers(t, e, short)[0].Tokens

	ctx := context.Background()
	stopped, stop := context.WithCancel(ctx)
	first, second := submit(t, e, ctx, long), submit(t, e, stopped, long)
	until(t, "both to run", func() bool { return e.Stats().Running == 2 })
	waiting := submit(t, e, ctx, short)
	e.do(ctx, func(Backend) { cards[0].Lose(errors.New("the bus fell silent")) })
	_, _, err := read(first)
	notReady(t, err)
	if s := e.Stats(); s.Running != 1 || s.Queued != 1 {
		t.Errorf("%d run and %d wait, want one each", s.Running, s.Queued)
	}
	stop()
	if _, r, err := read(second); err != nil || r.FinishReason != FinishCancelled {
		t.Errorf("the answer on the other card: %+v, %v", r, err)
	}
	if _, r, err := read(waiting); err != nil || !slices.Equal(r.Tokens, want) {
		t.Errorf("what waited: %v, %v, want %v", r, err, want)
	}
	lost := func(i int) error { return e.Devices()[i].Lost }
	if e.Ready() != nil || e.Room(1, 1) != nil || lost(0) == nil || lost(1) != nil {
		t.Errorf("one of two cards is lost: %v; %v, %v", e.Ready(), lost(0), lost(1))
	}
	if r := answers(t, e, short)[0]; !slices.Equal(r.Tokens, want) {
		t.Errorf("%v on the other card, want %v", r.Tokens, want)
	}

	stream := submit(t, e, ctx, long)
	until(t, "it to run", func() bool { return e.Stats().Running == 1 })
	e.all[1].do(ctx, func(Backend) { cards[1].Lose(errors.New("the bus fell silent")) })
	_, _, err = read(stream)
	notReady(t, err)
	if err := e.Ready(); err == nil || !strings.Contains(err.Error(), "card 0: ") || !strings.Contains(err.Error(), "; card 1: ") {
		t.Errorf("both cards are lost: %v", err)
	}
	_, err = e.Submit(ctx, short)
	notReady(t, err)
	e.all[1].do(ctx, func(b Backend) {
		e.all[1].recover = func() error {
			f, err := gguf.Parse(cardModel.Bytes())
			if err != nil {
				return err
			}
			return b.(*model.CUDA).Recover(f)
		}
		e.all[1].revive()
	})
	until(t, "the second card to be back", func() bool { return e.Ready() == nil })
	if r := answers(t, e, short)[0]; !slices.Equal(r.Tokens, want) || lost(0) == nil {
		t.Errorf("%v on the card that is back, want %v; the first is %v", r.Tokens, want, lost(0))
	}
	if s := e.Stats(); s.Promised != 0 || s.Queued != 0 {
		t.Errorf("afterwards %+v", s)
	}
}

// What waits for any card and is cancelled ends once, and makes way; so does all when the engine is closed.
func TestCardsCancelAndClose(t *testing.T) {
	e, _ := openOnCards(t, 3, Options{CacheMemory: 1 << 22, MaxSequences: 1, MaxQueue: 40, Block: 16}, nil)
	long := Request{Prompt: smallTokens(5, 20), MaxTokens: 4000, Cache: spec(t, "full")}
	ctx, cancel := context.WithCancel(context.Background())
	var running, waiting []<-chan Chunk
	for range 3 {
		running = append(running, submit(t, e, context.Background(), long))
	}
	until(t, "all cards to be busy", func() bool { return e.Stats().Running == 3 })
	for range 20 {
		waiting = append(waiting, submit(t, e, ctx, long))
	}
	behind := submit(t, e, context.Background(), long)
	cancel()
	for _, stream := range waiting {
		if _, r, err := read(stream); err != nil || r.FinishReason != FinishCancelled || len(r.Tokens) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	until(t, "one to wait", func() bool { return e.Stats().Queued == 1 })
	go e.all[2].Close()
	e.Close()
	for _, stream := range append(running, behind) {
		if _, _, err := read(stream); !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want that the engine is closed", err)
		}
	}
	if _, err := e.Submit(context.Background(), long); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}
