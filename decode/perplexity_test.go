package decode

import (
	"context"
	"errors"
	"math"
	"testing"

	"lessrag/decode/cache"
)

// The letters' NLL of a token is its number, so what is scored can be counted.
func TestPerplexityWindows(t *testing.T) {
	tokens := make([]int32, 47)
	for i := range tokens {
		tokens[i] = int32(i % 26)
	}
	sinks := cache.Spec{Policy: cache.Sinks}
	for _, o := range []PerplexityOptions{
		{Window: 10},
		{Window: 10, Block: 3},
		{Window: 10, From: 4},
		{Window: 10, From: 4, Block: 3},
		{Window: 10, From: 8},
		{Window: 2},
		{Window: 47, Block: 5},
		{Window: 10, Cache: sinks, Budget: cache.Budget{Tokens: 6}},
		{Window: 10, Cache: sinks, Budget: cache.Budget{Tokens: 6}, Block: 4, From: 3},
	} {
		e := (&letters{}).engine(t, Options{Block: 16, MaxSequences: 3})
		report, err := e.Perplexity(context.Background(), tokens, o)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		n, sum := 0, 0.0
		for first := 0; first+o.Window <= len(tokens); first += o.Window {
			for position := o.From; position < o.Window-1; position++ {
				sum += float64(tokens[first+position+1])
				n++
			}
		}
		mean := sum / float64(n)
		if report.Tokens != n || !(math.Abs(report.NLL-mean) <= 1e-9) || !(math.Abs(report.Perplexity/math.Exp(mean)-1) <= 1e-9) {
			t.Errorf("%+v: %+v; want %d tokens, mean %v", o, report, n, mean)
		}
		if report.BytesPerSequence == 0 || report.Kept != o.Window-1 {
			t.Errorf("%+v: %+v", o, report)
		}
		if s := e.Stats(); s.Promised != 0 {
			t.Errorf("%+v: %d bytes are still promised", o, s.Promised)
		}
	}
}

func TestPerplexityRefusals(t *testing.T) {
	e := (&letters{context: 100}).engine(t, Options{CacheMemory: 5000, Block: 16})
	tokens := make([]int32, 100)
	for field, o := range map[string]PerplexityOptions{
		"window": {Window: 101},
		"block":  {Window: 10, Block: 1000},
		"from":   {Window: 10, From: 9},
		"budget": {Window: 10, Budget: cache.Budget{Tokens: 8}},
	} {
		_, err := e.Perplexity(context.Background(), tokens, o)
		var wrong *InvalidError
		if !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	var wrong *InvalidError
	for name, tokens := range map[string][]int32{"too few": make([]int32, 9), "out of range": {0, 1, 2, 3, 4, 5, 6, 7, 8, 27}} {
		if _, err := e.Perplexity(context.Background(), tokens, PerplexityOptions{Window: 10}); !errors.As(err, &wrong) || wrong.Field != "tokens" {
			t.Errorf("%s: %v", name, err)
		}
	}
	var memory *MemoryError
	if _, err := e.Perplexity(context.Background(), tokens, PerplexityOptions{Window: 60}); !errors.As(err, &memory) {
		t.Errorf("more than all memory: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Perplexity(ctx, tokens, PerplexityOptions{Window: 10}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if s := e.Stats(); s.Promised != 0 {
		t.Errorf("%d bytes are still promised", s.Promised)
	}
}
