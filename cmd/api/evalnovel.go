package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"lessrag/cmd/api/answer"
	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/retrieve"
)

// blendNovel is what looking for passages costs prompts of which none is known.
type blendNovel struct {
	Pairs   int     `json:"pairs"`
	PlainMS float64 `json:"plain_ttft_ms"` // medians
	BlendMS float64 `json:"blend_ttft_ms"`
	Ratio   float64 `json:"ratio"` // of all blended prompts' times to all plain ones'
}

// novel reads pairs of prompts of new passages, one after the other: one plainly, one
// looking for its passages.
func (c *evalBlendCmd) novel(ctx context.Context, engine *decode.Engine, questions []blendQuestion) (*blendNovel, error) {
	var plain, blended []float64
	progress := newProgress(os.Stderr, "reading new passages", c.Novel)
	defer progress.finish()
	for i := range c.Novel {
		for side := range 2 {
			q := questions[i%len(questions)]
			found := slices.Clone(q.found)
			for j := range found { // words that no prompt has had make every passage new
				found[j].Text = fmt.Sprintf("Edition %d%d of part %d. %s", i, side, j, found[j].Text)
			}
			prompt, err := answer.Encode(engine, retrieve.Prompt(strings.TrimSpace(q.question), found))
			if err != nil {
				return nil, err
			}
			r := decode.Request{Prompt: prompt, Cache: cache.Spec{Policy: cache.Full}, MaxTokens: 1}
			blends := (i+side)%2 == 0 // which comes first takes turns
			if blends {
				if r.Blend, err = answer.BlendOf(engine, prompt, found, "novel"); err != nil {
					return nil, err
				}
			}
			result, err := wait(engine.Submit(ctx, r))
			if err != nil {
				return nil, err
			}
			if result.ReusedTokens > len(prompt)/4 {
				return nil, fmt.Errorf("%d of %d tokens of a new prompt were known", result.ReusedTokens, len(prompt))
			}
			ms := float64(result.TTFT.Microseconds()) / 1000
			if blends {
				blended = append(blended, ms)
			} else {
				plain = append(plain, ms)
			}
		}
		progress.show(i + 1)
	}
	return &blendNovel{Pairs: c.Novel, PlainMS: median(plain), BlendMS: median(blended), Ratio: sum(blended) / max(sum(plain), 1e-9)}, nil
}

func sum(values []float64) float64 {
	total := 0.0
	for _, x := range values {
		total += x
	}
	return total
}
