package main

import (
	"context"
	"fmt"
	"os"

	"lessrag/decode"
	"lessrag/decode/recall"
)

// perplexityScore is how well a cache predicts running text.
type perplexityScore struct {
	Cache      string  `json:"cache"`
	Tokens     int     `json:"tokens"`
	NLL        float64 `json:"nll"`  // nats per token
	Loss       float64 `json:"loss"` // above the full cache
	Perplexity float64 `json:"perplexity"`
	Bytes      int64   `json:"bytes_per_sequence"`
}

const (
	perplexityWindow = 2048
	perplexityBlock  = 16 // tokens fed at once to a bounded cache
)

// perplexity scores windows of held-out pages, joined, under every cache that asks
// no question, at positions where a bounded cache has begun to evict.
func (c *evalCacheCmd) perplexity(ctx context.Context, engine *decode.Engine, pages []recall.Page, entries []entry, log *evalLog) ([]perplexityScore, error) {
	if c.Windows == 0 {
		return nil, nil
	}
	var tokens []int32
	for _, page := range pages {
		tokens = append(tokens, engine.Tokenizer().Encode(page.Text+"\n\n")...)
	}
	if len(tokens) < c.Windows*perplexityWindow {
		return nil, usageError{fmt.Errorf("--windows: the pages have text for %d", len(tokens)/perplexityWindow)}
	}
	tokens = tokens[:c.Windows*perplexityWindow]
	var scores []perplexityScore
	progress := newProgress(os.Stderr, "perplexity", len(entries))
	defer progress.finish()
	for i, e := range entries {
		progress.show(i)
		if e.spec.AsksQuestion() {
			continue
		}
		budget, err := e.budget(engine, perplexityWindow)
		if err != nil {
			return nil, err
		}
		o := decode.PerplexityOptions{Window: perplexityWindow, From: perplexityWindow / 4, Cache: e.spec, Budget: budget}
		if e.spec.Bounded() {
			o.Block = perplexityBlock
		} else {
			o.Budget.Tokens = perplexityWindow
		}
		key := evalKey{Question: fmt.Sprintf("perplexity of %x", hashTokens(tokens)), Collection: engine.Info().Hash, Cache: e.text}
		report, err := remembered(log, key, func() (decode.PerplexityReport, error) { return engine.Perplexity(ctx, tokens, o) })
		if err != nil {
			return nil, fmt.Errorf("perplexity of %s: %w", e.text, err)
		}
		scores = append(scores, perplexityScore{Cache: e.text, Tokens: report.Tokens, NLL: report.NLL, Perplexity: report.Perplexity, Bytes: report.BytesPerSequence})
	}
	for _, full := range scores {
		if full.Cache == "full" {
			for i := range scores {
				scores[i].Loss = scores[i].NLL - full.NLL
			}
		}
	}
	return scores, nil
}
