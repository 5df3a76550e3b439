package decode

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lessrag/decode/cache"
)

// openReader opens the default reader, which make fetch lays out.
func openReader(t testing.TB, o Options) *Engine {
	t.Helper()
	assets := os.Getenv("LESSRAG_ASSETS")
	if assets == "" {
		assets = filepath.Join("..", "assets")
	}
	e, err := Open(filepath.Join(assets, "models", "SmolLM2-135M-Instruct.Q4_1.gguf"), o)
	if err != nil {
		t.Fatalf("%v; run make fetch", err)
	}
	t.Cleanup(e.Close)
	return e
}

// row is a tensor of what model/testdata/make_fixture.py measured: a row of ids,
// and how likely each next one is by an independent float32 forward pass.
func row[T int32 | float32](t *testing.T, name string) []T {
	t.Helper()
	data, err := os.ReadFile("model/testdata/reader.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var header map[string]struct {
		Offsets [2]int `json:"data_offsets"`
	}
	size := binary.LittleEndian.Uint64(data)
	if err := json.Unmarshal(data[8:8+size], &header); err != nil {
		t.Fatal(err)
	}
	at := header[name].Offsets
	out := make([]T, (at[1]-at[0])/4)
	if _, err := binary.Decode(data[8+int(size)+at[0]:8+int(size)+at[1]], binary.LittleEndian, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Perplexity with a full cache, and with four sinks and the 124 most recent tokens
// fed token by token, against the independent one: within half a percent.
func TestReaderPerplexity(t *testing.T) {
	const from = 511
	e := openReader(t, Options{})
	ids := row[int32](t, "ids")
	for _, test := range []struct {
		truth string
		o     PerplexityOptions
		slots int
	}{
		{"full.nll", PerplexityOptions{Window: 2048, From: from}, 2048},
		{"sinks.nll", PerplexityOptions{Window: 2048, From: from, Cache: cache.Spec{Policy: cache.Sinks}, Budget: cache.Budget{Tokens: 128}}, 129},
	} {
		report, err := e.Perplexity(context.Background(), ids, test.o)
		if err != nil {
			t.Fatal(err)
		}
		var sum float64
		truth := row[float32](t, test.truth)[from:]
		for _, x := range truth {
			sum += float64(x)
		}
		want := sum / float64(len(truth))
		t.Logf("%s: %.4f nats, independent %.4f", test.truth, report.NLL, want)
		if report.Tokens != len(truth) || !(math.Abs(math.Exp(report.NLL-want)-1) <= 0.005) {
			t.Errorf("%s: %d tokens, %.4f nats; want %d, %.4f", test.truth, report.Tokens, report.NLL, len(truth), want)
		}
		if bytes := int64(test.slots) * e.Info().TokenBytes; report.BytesPerSequence != bytes {
			t.Errorf("%s: %d bytes for a sequence, want %d", test.truth, report.BytesPerSequence, bytes)
		}
	}
}

// spec reads a cache that this build must have.
func spec(t testing.TB, text string) cache.Spec {
	t.Helper()
	s, err := cache.ParseSpec(text)
	if err == nil {
		err = s.Available()
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Requests with other prompts, lengths and caches, all at once, prompts beside
// answers, answer what each answers alone, to the last token; and no sequence ends
// above its plan.
func TestReaderAloneAndInCompany(t *testing.T) {
	e := openReader(t, Options{Block: 64, Interval: 4, StagingTokens: 512})
	ids := row[int32](t, "ids")
	requests := []Request{
		{Prompt: ids[:300]},
		{Prompt: ids[100:131], Cache: spec(t, "sinks"), Budget: cache.Budget{Tokens: 20}},
		{Prompt: ids[200:201]},
		{Prompt: ids[300:600], Cache: spec(t, "h2o"), Budget: cache.Budget{Tokens: 64}},
		{Prompt: ids[400:520], Sampling: Sampling{Temperature: 0.8, TopP: 0.9, Seed: 5}},
		{Prompt: ids[500:565], Cache: spec(t, "tova+moment"), Budget: cache.Budget{Bytes: 8 << 20}},
		{Prompt: ids[600:730], Budget: cache.Budget{Tokens: 200}},
		{Prompt: ids[700:900], Cache: spec(t, "streaming"), Budget: cache.Budget{Percent: 1}},
		{Prompt: ids[900:1290], Cache: spec(t, "snapkv+moment"), Budget: cache.Budget{Tokens: 80}, Question: 20},
		{Prompt: ids[1000:1750], Cache: spec(t, "vote"), Budget: cache.Budget{Tokens: 100}, Question: 75},
		{Prompt: ids[1100:1300], Cache: spec(t, "vote"), Budget: cache.Budget{Tokens: 60}},
	}
	for i := range requests {
		requests[i].MaxTokens = 12 + i
	}
	var streams []<-chan Chunk
	for _, r := range requests {
		streams = append(streams, submit(t, e, context.Background(), r))
	}
	together := make([]*Result, len(requests))
	for i, stream := range streams {
		_, r, err := read(stream)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		together[i] = r
	}
	for i, request := range requests {
		_, alone, err := read(submit(t, e, context.Background(), request))
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if !slices.Equal(alone.Tokens, together[i].Tokens) || alone.Text != together[i].Text {
			t.Errorf("request %d: %q alone, %q in company", i, alone.Text, together[i].Text)
		}
		m := alone.Memory
		if m.HeldBytes > m.BudgetBytes || m.HeldBytes < int64(m.KeptTokens)*e.Info().TokenBytes {
			t.Errorf("request %d: memory %+v", i, m)
		}
		if fed := alone.PromptTokens + alone.CompletionTokens; m.KeptTokens+m.EvictedTokens < fed-1 {
			t.Errorf("request %d: kept %d and evicted %d of %d tokens", i, m.KeptTokens, m.EvictedTokens, fed)
		}
	}
}

// The same prompt and a full cache: the same greedy answer in whatever blocks.
func TestReaderBlocks(t *testing.T) {
	ids := row[int32](t, "ids")
	var want []int32
	for _, block := range []int{128, 17} {
		e := openReader(t, Options{Block: block})
		_, r, err := read(submit(t, e, context.Background(), Request{Prompt: ids[:200], MaxTokens: 16}))
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = r.Tokens
		}
		if !slices.Equal(r.Tokens, want) {
			t.Errorf("blocks of %d: tokens %v, want %v", block, r.Tokens, want)
		}
	}
}

// A question in the model's own template is answered sensibly, to its end token.
func TestReaderAnswers(t *testing.T) {
	e := openReader(t, Options{})
	prompt, err := e.Template().Encode(e.Tokenizer(), []Message{{Role: "user", Content: "What color is the sky?"}})
	if err != nil {
		t.Fatal(err)
	}
	text, r, err := read(submit(t, e, context.Background(), Request{Prompt: prompt, MaxTokens: 250}))
	if err != nil || !strings.Contains(text, "blue") || r.FinishReason != FinishStop {
		t.Errorf("%q, %+v, %v", text, r, err)
	}
}

// A request that is cancelled inside a long prompt is gone before the prompt is.
func TestReaderCancelInsideABlock(t *testing.T) {
	e := openReader(t, Options{Block: 2048})
	ids := row[int32](t, "ids")
	ctx, cancel := context.WithCancel(context.Background())
	stream := submit(t, e, ctx, Request{Prompt: ids})
	until(t, "the prompt to be fed", func() bool { return e.Stats().Running == 1 })
	time.Sleep(20 * time.Millisecond)
	cancel()
	_, r, err := read(stream)
	if err != nil || r.FinishReason != FinishCancelled {
		t.Fatalf("%+v, %v", r, err)
	}
	if s := e.Stats(); s.Running != 0 || s.Promised != 0 || s.Prompt != 0 {
		t.Errorf("afterwards %+v: the whole block was computed", s)
	}
}

// Forced tokens are scored as they would be chosen: what the model says freely is
// what it finds likeliest at every step, and another word is not. A cache that asks
// a question answers from what it kept of a staged prompt.
func TestReaderForce(t *testing.T) {
	e := openReader(t, Options{})
	filler := strings.Repeat("The committee met again and nothing of note was said. ", 40)
	prompt := e.Tokenizer().Encode(filler + "The access code of the marlin team is 48151. " + filler)
	question := e.Tokenizer().Encode("\nQuestion: What is the access code of the marlin team?\nAnswer: The access code of the marlin team is")
	gold := e.Tokenizer().Encode(" 48151")
	for _, spec := range []cache.Spec{{}, {Policy: cache.Vote}} {
		r := Request{Prompt: slices.Concat(prompt, question), Question: len(question), Cache: spec, MaxTokens: len(gold), Sampling: Sampling{RepeatPenalty: 1}}
		if spec.Bounded() {
			r.Budget.Tokens = 160
		}
		_, free, err := read(submit(t, e, context.Background(), r))
		if err != nil {
			t.Fatal(err)
		}
		r.Force = gold
		_, forced, err := read(submit(t, e, context.Background(), r))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(free.Tokens, gold) || !slices.Equal(forced.Tokens, gold) || len(forced.Scores) != len(gold) {
			t.Fatalf("%s: said %v and was made to say %v with %d scores, want %v", spec, free.Tokens, forced.Tokens, len(forced.Scores), gold)
		}
		for i, score := range forced.Scores {
			if score.Best != gold[i] || !(score.NLL < 0.7) {
				t.Errorf("%s: token %d has NLL %.3f, and %d is the likeliest", spec, i, score.NLL, score.Best)
			}
		}
		r.Force = e.Tokenizer().Encode(" zebra")
		if _, wrong, err := read(submit(t, e, context.Background(), r)); err != nil || wrong.Scores[0].Best == r.Force[0] || !(wrong.Scores[0].NLL > 2) {
			t.Errorf("%s: a wrong word: %+v, %v", spec, wrong, err)
		}
	}
	if _, err := e.Submit(context.Background(), Request{Prompt: prompt, Force: make([]int32, 9000)}); err == nil {
		t.Error("more forced tokens than the context holds are not refused")
	}
}
