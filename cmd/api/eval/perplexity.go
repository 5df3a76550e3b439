package eval

import (
	"context"
	"fmt"
	"os"

	"lessrag/cmd/api/progress"
	"lessrag/decode"
	"lessrag/decode/recall"
)

// PerplexityScore is how well a cache predicts running text.
type PerplexityScore struct {
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
func (o CacheOptions) perplexity(ctx context.Context, engine *decode.Engine, pages []recall.Page, entries []Entry, log *Log) ([]PerplexityScore, error) {
	if o.Windows == 0 {
		return nil, nil
	}
	var tokens []int32
	for _, page := range pages {
		tokens = append(tokens, engine.Tokenizer().Encode(page.Text+"\n\n")...)
	}
	if len(tokens) < o.Windows*perplexityWindow {
		return nil, &InvalidError{"--windows", fmt.Sprintf("the pages have text for %d", len(tokens)/perplexityWindow)}
	}
	tokens = tokens[:o.Windows*perplexityWindow]
	var scores []PerplexityScore
	shown := progress.New(os.Stderr, "perplexity", len(entries))
	defer shown.Finish()
	for i, e := range entries {
		shown.Show(i)
		if e.Spec.AsksQuestion() {
			continue
		}
		budget, err := e.Budget(engine, perplexityWindow)
		if err != nil {
			return nil, err
		}
		p := decode.PerplexityOptions{Window: perplexityWindow, From: perplexityWindow / 4, Cache: e.Spec, Budget: budget}
		if e.Spec.Bounded() {
			p.Block = perplexityBlock
		} else {
			p.Budget.Tokens = perplexityWindow
		}
		key := Key{Question: fmt.Sprintf("perplexity of %x", hashTokens(tokens)), Collection: engine.Info().Hash, Cache: e.Text}
		report, err := Remembered(log, key, func() (decode.PerplexityReport, error) { return engine.Perplexity(ctx, tokens, p) })
		if err != nil {
			return nil, fmt.Errorf("perplexity of %s: %w", e.Text, err)
		}
		scores = append(scores, PerplexityScore{Cache: e.Text, Tokens: report.Tokens, NLL: report.NLL, Perplexity: report.Perplexity, Bytes: report.BytesPerSequence})
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
