package decode

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lessrag/decode/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name    string
		request Request
		text    string
		reason  string
	}{
		{"to the end token", Request{Prompt: []int32{19}}, "uvwxyz", FinishStop},
		{"as many as asked for", Request{Prompt: []int32{0, 1}, MaxTokens: 3}, "cde", FinishLength},
		{"to a stop string", Request{Prompt: []int32{0}, Stop: []string{"zzz", "fg"}}, "bcde", FinishStop},
		{"a stop string that does not come", Request{Prompt: []int32{18}, Stop: []string{"yzz"}}, "tuvwxyz", FinishStop},
		{"to the end of a full budget", Request{Prompt: []int32{0, 1, 2}, Budget: cache.Budget{Tokens: 8}}, "defgh", FinishLength},
		{"a bounded cache", Request{Prompt: []int32{3}, Cache: cache.Spec{Policy: cache.Sinks}, MaxTokens: 4}, "efgh", FinishLength},
		{"a prompt of several blocks", Request{Prompt: make([]int32, 21), MaxTokens: 2}, "bc", FinishLength},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := (&letters{}).engine(t, Options{Block: 8})
			text, r, err := read(submit(t, e, context.Background(), test.request))
			if err != nil || text != test.text || r.FinishReason != test.reason {
				t.Fatalf("%q, %+v, %v; want %q, %s", text, r, err, test.text, test.reason)
			}
			if r.PromptTokens != len(test.request.Prompt) || r.CompletionTokens != len(r.Tokens) || r.Memory.BudgetBytes == 0 {
				t.Errorf("result %+v", r)
			}
			if s := e.Stats(); s.Running != 0 || s.Queued != 0 || s.Promised != 0 {
				t.Errorf("afterwards %+v", s)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	e := (&letters{context: 100}).engine(t, Options{CacheMemory: 5000})
	sinks := cache.Spec{Policy: cache.Sinks}
	var invalid *InvalidError
	var long *PromptTooLongError
	var memory *MemoryError
	var missing *cache.UnavailableError
	var plan *cache.PlanError
	for name, test := range map[string]struct {
		request Request
		kind    any
		says    string
	}{
		"no prompt":               {Request{}, &invalid, "prompt"},
		"a token out of range":    {Request{Prompt: []int32{1, 27}}, &invalid, "token 1 is 27"},
		"a negative token":        {Request{Prompt: []int32{-1}}, &invalid, "token 0"},
		"negative max_tokens":     {Request{Prompt: []int32{1}, MaxTokens: -1}, &invalid, "max_tokens"},
		"an empty stop":           {Request{Prompt: []int32{1}, Stop: []string{""}}, &invalid, "stop"},
		"sampling":                {Request{Prompt: []int32{1}, Sampling: Sampling{TopP: 2}}, &invalid, "top_p"},
		"longer than the context": {Request{Prompt: make([]int32, 100), Cache: sinks}, &long, "100 tokens and at most 99"},
		"longer than its budget":  {Request{Prompt: make([]int32, 20), Budget: cache.Budget{Tokens: 20}}, &long, "20 tokens and at most 19"},
		"more than all memory":    {Request{Prompt: make([]int32, 60)}, &memory, "5000"},
		"a cache of another day":  {Request{Prompt: []int32{1}, Cache: cache.Spec{Policy: "vote", Bits: 3}}, &missing, "available: full, sinks"},
		"a budget too small":      {Request{Prompt: []int32{1}, Cache: sinks, Budget: cache.Budget{Tokens: 2}}, &plan, "at least"},
	} {
		chunks, err := e.Submit(context.Background(), test.request)
		if chunks != nil || !errors.As(err, test.kind) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %T that says %q", name, err, test.kind, test.says)
		}
	}
	if s := e.Stats(); s.Queued != 0 || s.Promised != 0 {
		t.Errorf("afterwards %+v", s)
	}
}

func TestQueueFull(t *testing.T) {
	l := &letters{pass: make(chan struct{})}
	e := l.engine(t, Options{MaxSequences: 1, MaxQueue: 2})
	request := Request{Prompt: []int32{0}, MaxTokens: 2}
	streams := []<-chan Chunk{submit(t, e, context.Background(), request)}
	until(t, "the first to run", func() bool { return l.entered.Load() == 1 })
	for range 2 {
		streams = append(streams, submit(t, e, context.Background(), request))
	}
	_, err := e.Submit(context.Background(), request)
	var full *QueueFullError
	if !errors.As(err, &full) || full.Queued != 2 || full.RetryAfter < time.Second || full.RetryAfter > time.Minute {
		t.Fatalf("a fourth request: %v", err)
	}
	close(l.pass)
	for _, stream := range streams {
		if text, _, err := read(stream); text != "bc" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
	}
}

// Cancelled while it waits, between two tokens or inside its prompt, a request
// ends and its memory is free; others go on.
func TestCancel(t *testing.T) {
	l := &letters{pass: make(chan struct{})}
	e := l.engine(t, Options{MaxSequences: 2, Block: 8})
	ctx, cancel := context.WithCancel(context.Background())
	decoding := submit(t, e, ctx, Request{Prompt: []int32{0}, MaxTokens: 20})
	prefilling := submit(t, e, ctx, Request{Prompt: make([]int32, 100)})
	l.pass <- struct{}{}
	l.pass <- struct{}{}
	waiting := submit(t, e, ctx, Request{Prompt: []int32{0}})
	until(t, "two running and one waiting", func() bool { s := e.Stats(); return s.Running == 2 && s.Queued == 1 })
	cancel()
	close(l.pass)
	for name, stream := range map[string]<-chan Chunk{"decoding": decoding, "prefilling": prefilling, "waiting": waiting} {
		text, r, err := read(stream)
		if err != nil || r.FinishReason != FinishCancelled {
			t.Errorf("%s: %q, %+v, %v", name, text, r, err)
		}
	}
	until(t, "everything to be free", func() bool { s := e.Stats(); return s.Running == 0 && s.Queued == 0 && s.Promised == 0 })
	if text, _, err := read(submit(t, e, context.Background(), Request{Prompt: []int32{23}})); text != "yz" || err != nil {
		t.Errorf("afterwards: %q, %v", text, err)
	}
}

// A reader that does not read delays nobody, and loses nothing but progress.
func TestSlowReader(t *testing.T) {
	e := (&letters{}).engine(t, Options{Block: 1})
	prompt := make([]int32, 60) // more progress than the outbox holds
	slow := submit(t, e, context.Background(), Request{Prompt: prompt, MaxTokens: 24})
	if text, _, err := read(submit(t, e, context.Background(), Request{Prompt: prompt, MaxTokens: 25})); err != nil || len(text) != 25 {
		t.Fatalf("the other one: %q, %v", text, err)
	}
	until(t, "the slow one to end", func() bool { return e.Stats().Running == 0 })
	if text, r, err := read(slow); err != nil || text != "bcdefghijklmnopqrstuvwxy" || r.FinishReason != FinishLength {
		t.Errorf("%q, %+v, %v", text, r, err)
	}
}

// Logits that are no numbers end the sequence that has them, and no other.
func TestNotFinite(t *testing.T) {
	e := (&letters{poison: 7}).engine(t, Options{})
	bad := submit(t, e, context.Background(), Request{Prompt: []int32{4}})
	good := submit(t, e, context.Background(), Request{Prompt: []int32{8}, MaxTokens: 9})
	if text, r, err := read(bad); !errors.Is(err, ErrNotFinite) || r != nil || text != "fgh" {
		t.Errorf("%q, %+v, %v", text, r, err)
	}
	if text, _, err := read(good); text != "jklmnopqr" || err != nil {
		t.Errorf("beside it: %q, %v", text, err)
	}
	if s := e.Stats(); s.Promised != 0 {
		t.Errorf("afterwards %+v", s)
	}
}

// TestRefusedSequenceWakesTheNext: whoever waits behind a request that got no
// memory is admitted when it has ended, without anything else happening.
func TestRefusedSequenceWakesTheNext(t *testing.T) {
	broken := errors.New("broken")
	l := &letters{refusal: broken, pass: make(chan struct{})}
	l.refusals.Store(3) // the third asks successfully
	e := l.engine(t, Options{MaxSequences: 1})
	var streams []<-chan Chunk
	for range 3 {
		streams = append(streams, submit(t, e, context.Background(), Request{Prompt: []int32{4}, MaxTokens: 1}))
	}
	close(l.pass)
	for i, stream := range streams {
		if _, _, err := read(stream); errors.Is(err, broken) != (i < 2) {
			t.Errorf("request %d: %v", i, err)
		}
	}
}

func TestBackendFailures(t *testing.T) {
	broken := errors.New("broken")
	for name, l := range map[string]*letters{"no memory": {refusal: broken}, "no pass": {breakage: broken}} {
		e := l.engine(t, Options{})
		if _, _, err := read(submit(t, e, context.Background(), Request{Prompt: []int32{4}})); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		until(t, "memory to be free", func() bool { return e.Stats().Promised == 0 })
	}
}

func TestClose(t *testing.T) {
	l := &letters{pass: make(chan struct{})}
	e := l.engine(t, Options{MaxSequences: 1})
	running := submit(t, e, context.Background(), Request{Prompt: []int32{0}})
	waiting := submit(t, e, context.Background(), Request{Prompt: []int32{0}})
	until(t, "a pass", func() bool { return l.entered.Load() == 1 })
	closed := make(chan struct{})
	go func() { e.Close(); close(closed) }()
	until(t, "the engine to close", func() bool { return errors.Is(e.Room(1, 1), ErrClosed) })
	close(l.pass)
	<-closed
	for _, stream := range []<-chan Chunk{running, waiting} {
		if _, _, err := read(stream); !errors.Is(err, ErrClosed) {
			t.Errorf("%v, want ErrClosed", err)
		}
	}
	if _, err := e.Submit(context.Background(), Request{Prompt: []int32{0}}); !errors.Is(err, ErrClosed) {
		t.Errorf("Submit afterwards: %v", err)
	}
	if _, err := e.Perplexity(context.Background(), make([]int32, 10), PerplexityOptions{Window: 5}); !errors.Is(err, ErrClosed) {
		t.Errorf("Perplexity afterwards: %v", err)
	}
	e.Close() // again
}

// 64 streams over the memory of 8: all finish, none is mixed up with another, and
// no more is promised than there is.
func TestManyStreams(t *testing.T) {
	e := (&letters{}).engine(t, Options{CacheMemory: 8 * 2200, Block: 16})
	var streams []<-chan Chunk
	request := func(i int) Request {
		return Request{Prompt: make([]int32, 1+i%12), MaxTokens: 1 + i%9}
	}
	for i := range 64 {
		for {
			chunks, err := e.Submit(context.Background(), request(i))
			var full *QueueFullError
			if errors.As(err, &full) {
				time.Sleep(time.Millisecond)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, chunks)
			break
		}
		if s := e.Stats(); s.Promised > s.CacheMemory || s.Promised < 0 {
			t.Fatalf("promised %d of %d bytes", s.Promised, s.CacheMemory)
		}
	}
	for i, stream := range streams {
		if text, _, err := read(stream); err != nil || text != "bcdefghijk"[:request(i).MaxTokens] {
			t.Errorf("stream %d: %q, %v", i, text, err)
		}
	}
}
