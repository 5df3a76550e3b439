package answer

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/retrieve"
)

// words counts words: enough of a tokenizer to plan with.
type words struct{}

func (words) Count(text string) int { return len(strings.Fields(text)) }

func small() reader {
	shape := cache.Shape{Layers: 2, KVHeads: 1, HeadDim: 4, Context: 1000, Interval: 4}
	return reader{context: 1000, memory: 1 << 20, tokens: words{}, plan: func(s cache.Spec, b cache.Budget) (cache.Plan, error) {
		return cache.NewPlan(s, b, shape)
	}}
}

func defaults() Defaults {
	return Defaults{Collection: "facts", Cache: "sinks", Budget: "10%", Limit: 5, ContextTokens: 600, MaxTokens: 100,
		Sampling: decode.Sampling{RepeatPenalty: 1.1}}
}

func ptr[T any](v T) *T { return &v }

func TestCheckAppliesDefaults(t *testing.T) {
	p, err := defaults().check(Question{Text: "  why is it so?  "}, small())
	if err != nil {
		t.Fatal(err)
	}
	if p.text != "why is it so?" || p.collection != "facts" || p.limit != 5 || p.maxTokens != 100 || p.context != 600 || p.room != 1000 ||
		p.spec.String() != "sinks" || p.budget.Percent != 10 || p.sampling.RepeatPenalty != 1.1 || p.memory.BudgetBytes <= 0 {
		t.Errorf("planned %+v", p)
	}

	// A full cache takes what the prompt needs: the default budget is not its.
	p, err = defaults().check(Question{Text: "why?", Cache: "full"}, small())
	if err != nil || !p.budget.IsZero() || p.room != 1000 || p.memory.BudgetBytes != 0 {
		t.Errorf("full planned as %+v, %v", p, err)
	}
	// With a budget of its own it holds no more than that.
	p, err = defaults().check(Question{Text: "why?", Cache: "full", Budget: "400", MaxTokens: 50}, small())
	if err != nil || p.room != 400 || p.context != 400-50-128-1 {
		t.Errorf("full with 400 planned as room %d, context %d, %v", p.room, p.context, err)
	}
	// Without a number of tokens for passages they get what is left of the context.
	d := defaults()
	d.ContextTokens = 0
	p, err = d.check(Question{Text: "why?"}, small())
	if err != nil || p.context != 1000-100-128-1 || d.history(1000) != 1000 {
		t.Errorf("planned %d tokens for passages and %d for turns, %v", p.context, d.history(1000), err)
	}
	if d.HistoryTokens = 300; d.history(1000) != 300 {
		t.Errorf("%d tokens for turns where 300 are set", d.history(1000))
	}
	d.ContextTokens = -1
	var invalid *InvalidError
	if _, err = d.check(Question{Text: "why?"}, small()); !errors.As(err, &invalid) || invalid.Fields[0].Field != "context_tokens" {
		t.Errorf("-1 tokens for passages: %v", err)
	}
	p, err = defaults().check(Question{Text: "why?", Temperature: ptr(0.5), TopP: ptr(0.9), Seed: ptr(int64(math.MaxInt64))}, small())
	if err != nil || p.sampling.Temperature != 0.5 || p.sampling.TopP != 0.9 || p.sampling.Seed != math.MaxInt64 {
		t.Errorf("sampling %+v, %v", p.sampling, err)
	}
}

func TestCheckNamesEveryBadField(t *testing.T) {
	for name, c := range map[string]struct {
		q      Question
		fields string
	}{
		"empty":        {Question{}, "question"},
		"space":        {Question{Text: "\n\t "}, "question"},
		"long":         {Question{Text: strings.Repeat("a", MaxQuestionBytes+1)}, "question"},
		"many tokens":  {Question{Text: strings.Repeat("a ", 900)}, "question"},
		"not UTF-8":    {Question{Text: "\xff"}, "question"},
		"NUL":          {Question{Text: "a\x00"}, "question"},
		"NaN":          {Question{Text: "a", Temperature: ptr(math.NaN())}, "temperature"},
		"infinite":     {Question{Text: "a", Temperature: ptr(math.Inf(1))}, "temperature"},
		"negative":     {Question{Text: "a", Temperature: ptr(-0.001)}, "temperature"},
		"top_p NaN":    {Question{Text: "a", TopP: ptr(math.NaN())}, "top_p"},
		"top_p 0":      {Question{Text: "a", TopP: ptr(0.0)}, "top_p"},
		"seed":         {Question{Text: "a", Seed: ptr(int64(-1))}, "seed"},
		"limit":        {Question{Text: "a", Limit: retrieve.MaxLimit + 1}, "limit"},
		"limit below":  {Question{Text: "a", Limit: -1}, "limit"},
		"max_tokens":   {Question{Text: "a", MaxTokens: math.MaxInt}, "max_tokens"},
		"cache":        {Question{Text: "a", Cache: "magic"}, "cache"},
		"unavailable":  {Question{Text: "a", Cache: "h2o+kivi3"}, "cache"},
		"exclusive":    {Question{Text: "a", Cache: "elastic+less"}, "cache"},
		"budget":       {Question{Text: "a", Budget: "-5"}, "budget"},
		"several":      {Question{Limit: -1, Seed: ptr(int64(-1)), Cache: "magic"}, "question limit seed cache"},
		"collection":   {Question{Text: "a", Collection: strings.Repeat("c", maxCollectionBytes+1)}, "collection"},
		"small budget": {Question{Text: "a", Cache: "full", Budget: "20"}, "question"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := defaults().check(c.q, small())
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("not refused: %v", err)
			}
			var fields []string
			for _, f := range invalid.Fields {
				fields = append(fields, f.Field)
				if f.Message == "" || !strings.Contains(err.Error(), f.Field+" "+f.Message) {
					t.Errorf("%q does not say what is wrong with %s", err, f.Field)
				}
			}
			if got := strings.Join(fields, " "); got != c.fields {
				t.Errorf("named %s, want %s", got, c.fields)
			}
		})
	}
}

func TestRecentTurns(t *testing.T) {
	newest := []retrieve.Turn{{Question: "q3", Answer: "a b"}, {Question: "q2", Answer: "a b c"}, {Question: "q1", Answer: "a"}}
	newest[1].Passages = []retrieve.Passage{{Text: "of it"}}
	newest[1].Answer = "a"
	for budget, want := range map[int][]string{0: nil, 2: nil, 3: {"q3"}, 6: {"q3"}, 7: {"q2", "q3"}, 8: {"q2", "q3"}, 9: {"q1", "q2", "q3"}} {
		var got []string
		for _, turn := range recent(newest, words{}, budget) {
			got = append(got, turn.Question)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d tokens keep %v, want %v", budget, got, want)
		}
	}
}

func TestFailuresKeepTheirInsides(t *testing.T) {
	f := failureOf(fmt.Errorf("connect to 10.1.2.3: password %q", "secret"))
	if f.Code != "internal" || strings.Contains(f.Message, "secret") || strings.Contains(f.Message, "10.1.2.3") {
		t.Errorf("told %+v", f)
	}
	for err, code := range map[error]string{
		&decode.NotReadyError{Reason: errNoRoom}: "not_ready",
		&decode.QueueFullError{Queued: 3}:        "queue_full", &decode.MemoryError{Need: 2, Have: 1}: "no_memory", errNoRoom: "no_room",
		&retrieve.EmbedderMismatchError{Collection: "c"}: "embedder_mismatch", fmt.Errorf("x: %w", retrieve.ErrNotFound): "not_found",
	} {
		if got := failureOf(fmt.Errorf("wrapped: %w", err)); got.Code != code || got.Message == "" {
			t.Errorf("%v is told as %+v", err, got)
		}
	}
}

func TestStorable(t *testing.T) {
	for in, want := range map[string]string{"plain\n": "plain\n", "a\x00b": "a b", "é\xff": "é\uFFFD", "": ""} {
		if got := storable(in); got != want {
			t.Errorf("%q is stored as %q", in, got)
		}
	}
}
