package bench

import (
	"context"
	"fmt"

	"lessrag/decode"
)

// Accuracy is what rounding to int8 costs: the perplexity of a text beside that of
// the same weights in float32.
type Accuracy struct {
	Tokens  int     `json:"tokens"`  // predicted
	Int8    float64 `json:"int8"`    // perplexity
	Float32 float64 `json:"float32"` // perplexity
	Excess  float64 `json:"excess"`  // Int8 / Float32 − 1
}

// MeasureAccuracy scores a text, as token ids, by both arithmetics, with a full
// cache in windows of at most 2,048 tokens.
func MeasureAccuracy(ctx context.Context, int8, float32 *decode.Engine, tokens []int32) (*Accuracy, error) {
	o := decode.PerplexityOptions{Window: min(2048, len(tokens), int8.Info().Context)}
	rounded, err := int8.Perplexity(ctx, tokens, o)
	if err != nil {
		return nil, fmt.Errorf("perplexity in int8: %w", err)
	}
	exact, err := float32.Perplexity(ctx, tokens, o)
	if err != nil {
		return nil, fmt.Errorf("perplexity in float32: %w", err)
	}
	return &Accuracy{Tokens: rounded.Tokens, Int8: rounded.Perplexity, Float32: exact.Perplexity, Excess: rounded.Perplexity/exact.Perplexity - 1}, nil
}
