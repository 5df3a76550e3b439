package eval

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"lessrag/cmd/api/answer"
	"lessrag/cmd/api/progress"
	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/retrieve"
)

// Novel is what looking for passages costs prompts of which none is known.
type Novel struct {
	Pairs   int     `json:"pairs"`
	PlainMS float64 `json:"plain_ttft_ms"` // medians
	BlendMS float64 `json:"blend_ttft_ms"`
	Ratio   float64 `json:"ratio"` // of all blended prompts' times to all plain ones'
}

// novel reads pairs of prompts of new passages, one after the other: one plainly, one
// looking for its passages.
func (o BlendOptions) novel(ctx context.Context, engine *decode.Engine, questions []BlendQuestion, log *Log) (*Novel, error) {
	var plain, blended []float64
	shown := progress.New(os.Stderr, "reading new passages", o.Novel)
	defer shown.Finish()
	for i := range o.Novel {
		key := Key{Question: fmt.Sprintf("new passages, pair %d", i), Source: fmt.Sprintf("%d passages of %d", o.Passages, o.Tokens), Collection: engine.Info().Hash}
		pair, err := Remembered(log, key, func() (pair [2]float64, err error) {
			for turn := range pair {
				blends := (i + turn) % 2 // which comes first takes turns
				if pair[blends], err = readNovel(ctx, engine, questions[i%len(questions)], fmt.Sprintf("%d%d", i, turn), blends == 1); err != nil {
					return pair, err
				}
			}
			return pair, nil
		})
		if err != nil {
			return nil, err
		}
		plain, blended = append(plain, pair[0]), append(blended, pair[1])
		shown.Show(i + 1)
	}
	return &Novel{Pairs: o.Novel, PlainMS: median(plain), BlendMS: median(blended), Ratio: sum(blended) / max(sum(plain), 1e-9)}, nil
}

// readNovel is the time to the first token of a question's prompt, milliseconds, where
// the edition makes every passage one that no prompt has had.
func readNovel(ctx context.Context, engine *decode.Engine, q BlendQuestion, edition string, blends bool) (float64, error) {
	found := slices.Clone(q.found)
	for j := range found {
		found[j].Text = fmt.Sprintf("Edition %s of part %d. %s", edition, j, found[j].Text)
	}
	prompt, err := answer.Encode(engine, retrieve.Prompt(strings.TrimSpace(q.question), found))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	r := decode.Request{Prompt: prompt, Cache: cache.Spec{Policy: cache.Full}, MaxTokens: 1}
	if blends {
		if r.Blend, err = answer.BlendOf(engine, prompt, retrieve.Bodies(found), "novel"); err != nil {
			return 0, err
		}
	}
	result, err := decode.Wait(engine.Submit(ctx, r))
	if err == nil && result.ReusedTokens > len(prompt)/4 {
		err = fmt.Errorf("%d of %d tokens of a new prompt were known", result.ReusedTokens, len(prompt))
	}
	return float64(time.Since(start).Microseconds()) / 1000, err
}
