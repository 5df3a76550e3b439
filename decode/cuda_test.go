package decode

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"lessrag/decode/gguf"
	"lessrag/decode/gguf/gguftest"
	"lessrag/decode/model"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cuda/device"
	"lessrag/lesskernels/cuda/ptx"
)

var cardModel = gguftest.Model{Layers: 2, Width: 32, Hidden: 32, Heads: 3, KVHeads: 1, HeadDim: 64, Matrices: lesskernels.Q4_1, Embedding: lesskernels.Q8_0}

// openOnCard starts an engine over a small model on the interpreter of a card's kernels.
func openOnCard(t *testing.T, o Options, maps *lesskernels.Maps) (*Engine, *ptx.Device) {
	t.Helper()
	e, cards := openOnCards(t, 1, o, maps)
	return e, cards[0]
}

// openOnCards starts one over several.
func openOnCards(t *testing.T, n int, o Options, maps *lesskernels.Maps) (*Engine, []*ptx.Device) {
	t.Helper()
	var cards []*ptx.Device
	for i := range n {
		cards = append(cards, ptx.New(1<<28))
		cards[i].Index = i
		o.Devices = append(o.Devices, cards[i])
	}
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(cardModel.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var backends []Backend
	for _, d := range cards {
		l, err := openCUDA(f, o, d)
		if err != nil {
			t.Fatal(err)
		}
		if maps != nil {
			if err := l.backend.(*model.CUDA).UseMaps(maps); err != nil {
				t.Fatal(err)
			}
		}
		backends = append(backends, l.backend)
	}
	all := newEngines(backends, vocabulary{
		piece: func(token int32) []byte { return []byte{byte(' ' + token)} },
		isEnd: func(int32) bool { return false },
	}, o, nil)
	t.Cleanup(func() {
		all[0].Close()
		for _, d := range cards {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	for i, e := range all {
		e.info.Device = fmt.Sprintf("card %d", i)
	}
	return all[0], cards
}

// cardMaps are random feature maps for the small model of openOnCard.
func cardMaps() *lesskernels.Maps {
	return randomMaps(2, lesskernels.FeatureShape{Heads: 3, KVHeads: 1, HeadDim: 64, Hidden: 24, Rank: 5}, [][]float32{{0.5}, {float32(math.Inf(-1))}})
}

// Eight answers side by side are the eight answers alone, and give their memory back.
func TestCardAnswers(t *testing.T) {
	e, _ := openOnCard(t, Options{CacheMemory: 1 << 22, MaxSequences: 8, Block: 16, Interval: 3}, cardMaps())
	random := rand.New(rand.NewPCG(3, 4))
	var requests []Request
	for i := range 8 {
		r := Request{MaxTokens: 5, Cache: spec(t, []string{"full", "sinks", "full", "h2o", "full", "streaming+less", "full", "tova+less"}[i]),
			Sampling: []Sampling{{}, {Temperature: 0.8, TopK: 5, Seed: 3}, {Temperature: 0.8, TopP: 0.9, RepeatPenalty: 1.2, Seed: 4}, {Temperature: 1, Seed: 5}}[i%4]}
		if i%2 == 1 {
			r.Budget.Tokens = 12 + i
		}
		for range 10 + 9*i {
			r.Prompt = append(r.Prompt, random.Int32N(gguftest.Vocab))
		}
		requests = append(requests, r)
	}
	var alone []*Result
	for _, r := range requests {
		_, result, err := read(submit(t, e, context.Background(), r))
		if err != nil {
			t.Fatal(err)
		}
		alone = append(alone, result)
	}
	var streams []<-chan Chunk
	reused := 0
	for _, r := range requests {
		streams = append(streams, submit(t, e, context.Background(), r))
	}
	for i, stream := range streams {
		_, result, err := read(stream)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(result.Tokens, alone[i].Tokens) || len(result.Tokens) != 5 {
			t.Errorf("answer %d: %v side by side, %v alone", i, result.Tokens, alone[i].Tokens)
		}
		reused += result.ReusedTokens
		if m := result.Memory; m.HeldBytes > m.BudgetBytes || i%2 == 1 && m.EvictedTokens == 0 {
			t.Errorf("answer %d: %+v", i, m)
		}
	}
	if reused == 0 {
		t.Error("no beginning of a prompt was kept")
	}
	until(t, "memory to be free", func() bool { return e.Stats().Promised == 0 })
}

// Prompts that are staged, one of them in chunks, give the same answers side by side and behind a kept beginning as alone.
func TestCardStages(t *testing.T) {
	e, _ := openOnCard(t, Options{CacheMemory: 1 << 22, MaxSequences: 3, Block: 8, Interval: 3, StagingTokens: 96, HeadWeights: []float32{1, 0.2}}, cardMaps())
	var requests []Request
	for i, n := range []int{60, 130, 70} {
		r := Request{Prompt: smallTokens(6, n), Question: 9, MaxTokens: 6, Cache: spec(t, []string{"vote+less", "vote+less", "snapkv"}[i])}
		r.Budget.Tokens = 40
		requests = append(requests, r)
	}
	var alone [][]int32
	for _, r := range requests {
		_, result, err := read(submit(t, e, context.Background(), r))
		if err != nil {
			t.Fatal(err)
		}
		if m := result.Memory; m.HeldBytes > m.BudgetBytes || m.KeptTokens > 43 || m.KeptTokens+m.EvictedTokens < len(r.Prompt) {
			t.Errorf("%d tokens: %+v", len(r.Prompt), m)
		}
		alone = append(alone, result.Tokens)
	}
	var streams []<-chan Chunk
	for _, r := range requests {
		streams = append(streams, submit(t, e, context.Background(), r))
	}
	for i, stream := range streams {
		_, result, err := read(stream)
		if err != nil || !slices.Equal(result.Tokens, alone[i]) || result.ReusedTokens == 0 {
			t.Errorf("answer %d: %+v side by side, %v; %v alone", i, result, err, alone[i])
		}
	}
	if s := e.Stats(); s.Staging == 0 || s.Promised != 0 {
		t.Errorf("afterwards %+v", s)
	}
}

// What cannot be put on a card is refused with what is wrong.
func TestCardRefusals(t *testing.T) {
	for want, o := range map[string]Options{
		`math "float32": a card computes in bf16`: {Devices: []device.Device{ptx.New(1)}, Math: "float32"},
		"open x.less": {Devices: []device.Device{ptx.New(1 << 28)}, CacheMemory: 1 << 20, Maps: "x.less"},
		"bytes are free on card 0 (PTX interpreter)": {Devices: []device.Device{ptx.New(1 << 20)}},
	} {
		f, err := gguf.Parse(gguftest.Model{Layers: 1, Width: 32, Hidden: 32, Heads: 1, KVHeads: 1, HeadDim: 64, Matrices: lesskernels.Q4_1, Embedding: lesskernels.Q8_0}.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if o, err = o.withDefaults(); err == nil {
			_, err = openCUDA(f, o, o.Devices[0])
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
	if _, err := Open("/nonexistent.gguf", Options{Devices: []device.Device{ptx.New(1), ptx.New(1)}}); err == nil {
		t.Error("no file was opened")
	}
}

// A card that is lost ends answers with the reason; the engine stays, and says it again.
func TestCardLost(t *testing.T) {
	e, d := openOnCard(t, Options{CacheMemory: 1 << 22, MaxSequences: 2, Block: 16}, nil)
	e.do(context.Background(), func(Backend) { d.Lose(errors.New("the bus fell silent")) })
	if err := e.Ready(); err != nil {
		t.Errorf("before anything failed: %v", err)
	}
	_, _, err := read(submit(t, e, context.Background(), Request{Prompt: []int32{4}}))
	notReady(t, err)
	notReady(t, e.Ready())
	_, err = e.Submit(context.Background(), Request{Prompt: []int32{4}})
	notReady(t, err)
	notReady(t, e.Room(1, 1))
	if n := e.Stats().Promised; n != 0 {
		t.Errorf("%d bytes stay promised", n)
	}
}

func notReady(t *testing.T, err error) {
	t.Helper()
	var unready *NotReadyError
	if !errors.As(err, &unready) || !errors.Is(err, device.ErrLost) || !strings.Contains(err.Error(), "the bus fell silent") {
		t.Errorf("%v, want that the card is lost, and why", err)
	}
}

// A card that is lost in the middle of answers ends them all with the reason; when it has come back, the same
// questions have the same answers.
func TestCardComesBack(t *testing.T) {
	o := Options{CacheMemory: 1 << 20, MaxSequences: 2, Block: 16, Interval: 3, retryLost: time.Millisecond}
	e, d := openOnCard(t, o, cardMaps())
	r := Request{Prompt: smallTokens(5, 40), MaxTokens: 400, Cache: spec(t, "streaming+less")}
	r.Budget.Tokens = 12
	short, asked := r, Request{Prompt: smallTokens(5, 50), Question: 9, MaxTokens: 3, Cache: spec(t, "vote")}
	short.MaxTokens, asked.Budget.Tokens = 6, 40
	var want [][]int32
	for _, r := range []Request{short, asked} {
		_, result, err := read(submit(t, e, context.Background(), r))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, result.Tokens)
	}
	tries := 0
	b := e.backend.(*model.CUDA)
	e.recover = func() error {
		if tries++; tries == 1 {
			return errors.New("not yet")
		}
		f, err := gguf.Parse(cardModel.Bytes())
		if err != nil {
			return err
		}
		return b.Recover(f)
	}
	running := []<-chan Chunk{submit(t, e, context.Background(), r), submit(t, e, context.Background(), r), submit(t, e, context.Background(), r)}
	e.do(context.Background(), func(Backend) { d.Lose(errors.New("the bus fell silent")) })
	for _, stream := range running {
		_, _, err := read(stream)
		notReady(t, err)
	}
	until(t, "the card to be back", func() bool { return e.Ready() == nil })
	if tries < 2 {
		t.Errorf("%d tries", tries)
	}
	for i, r := range []Request{short, asked} {
		_, got, err := read(submit(t, e, context.Background(), r))
		if err != nil || !slices.Equal(got.Tokens, want[i]) || got.ReusedTokens > 0 {
			t.Errorf("%+v, %v: want %v", got, err, want[i])
		}
	}
	until(t, "memory to be free", func() bool { return e.Stats().Promised == 0 })
}
