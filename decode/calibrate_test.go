package decode

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/model"
)

// What Look measures, taken apart: the question's rows are fed to a fresh staging
// sequence one at a time, and the same means are formed from what it observed.
func TestLook(t *testing.T) {
	e := openSmall(t, Options{Block: 32}, nil)
	l := Lookup{Prompt: smallTokens(3, 90), Question: 7, Prefix: smallTokens(4, 3), Gold: smallTokens(5, 2), Sentence: [2]int{40, 52}, Answer: [2]int{45, 48}}
	got, err := e.Look(context.Background(), l)
	if err != nil {
		t.Fatal(err)
	}
	want := Attention{
		Sentence: attended(t, e, l.Prompt[:83], l.Prompt[83:], l.Sentence),
		Answer:   attended(t, e, slices.Concat(l.Prompt, l.Prefix[:2]), []int32{l.Prefix[2], l.Gold[0]}, l.Answer),
	}
	for name, pair := range map[string][2][]float64{"sentence": {got.Sentence, want.Sentence}, "answer": {got.Answer, want.Answer}} {
		if len(pair[0]) != smallLayers*smallKVHeads || len(pair[1]) != len(pair[0]) {
			t.Fatalf("%s: %d heads, want %d", name, len(pair[0]), len(pair[1]))
		}
		for head, x := range pair[0] {
			if !(math.Abs(x-pair[1][head]) <= 1e-6) || !(x > 0 && x < 1) {
				t.Errorf("%s, head %d: %v, want %v", name, head, x, pair[1][head])
			}
		}
	}

	for name, change := range map[string]func(*Lookup){
		"no question":           func(l *Lookup) { l.Question = 0 },
		"no answer":             func(l *Lookup) { l.Gold = nil },
		"a span of nothing":     func(l *Lookup) { l.Answer = [2]int{45, 45} },
		"a span beyond":         func(l *Lookup) { l.Sentence = [2]int{80, 91} },
		"more than the context": func(l *Lookup) { l.Gold = make([]int32, 1<<16) },
	} {
		bad := l
		change(&bad)
		if _, err := e.Look(context.Background(), bad); err == nil {
			t.Errorf("%s is not refused", name)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Look(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
}

// attended is the mean over rows of what each KV head's keenest query head attends
// to a span, every row seen by a sequence of its own.
func attended(t *testing.T, e *Engine, before, rows []int32, span [2]int) []float64 {
	t.Helper()
	shape := e.backend.Shape(cache.Vote)
	plan, err := cache.NewStaging(cache.Spec{Policy: cache.Vote}, 256, shape)
	if err != nil {
		t.Fatal(err)
	}
	group := smallHeads / smallKVHeads
	sums := make([]float64, smallLayers*smallHeads)
	for i := range rows {
		e.do(context.Background(), func(b Backend) {
			s, err := b.NewSequence(plan)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Free()
			tokens := slices.Concat(before, rows[:i+1])
			for len(tokens) > 0 {
				n := min(32, len(tokens))
				w := model.Work{Sequence: s, Tokens: tokens[:n], Prompt: true}
				if n == len(tokens) {
					w.Question = 1
				}
				if _, err := b.Forward([]model.Work{w}); err != nil {
					t.Error(err)
					return
				}
				tokens = tokens[n:]
			}
			for head, attention := range e.backend.Staged(s).Attention {
				for at := span[0]; at < span[1]; at++ {
					for g := range group {
						sums[head*group+g] += float64(attention[at*group+g])
					}
				}
			}
		})
	}
	var most []float64
	for at := 0; at < len(sums); at += group {
		most = append(most, slices.Max(sums[at:at+group])/float64(len(rows)))
	}
	return most
}
