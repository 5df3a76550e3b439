package model

import (
	"fmt"
	"testing"
	"time"

	"lessrag/decode/cache"
	"lessrag/lesskernels"
)

// BenchmarkState is what a state costs the default reader, maps of chance being as
// fast as trained ones: a prompt of 2,048 tokens in blocks of 128, then 64 steps,
// with 5% of the context kept. Every round feeds all caches, one after the other,
// so that their ratios hold on a machine that is not quiet. It reports tokens/s,
// and the speed as a part of that of the same policy without a state.
func BenchmarkState(b *testing.B) {
	const prompt, block, steps = 2048, 128, 64
	c := newCPU(b, readerPath(), Int8, Limits{Tokens: block, Sequences: 1})
	if err := c.UseMaps(syntheticMapsOf(c.config, 128, 8, lesskernels.PreRoPE, open)); err != nil {
		b.Fatal(err)
	}
	tokens := make([]int32, prompt+steps)
	for i := range tokens {
		tokens[i] = int32(1000 + i*37%40000)
	}
	for _, policy := range []string{"sinks", "h2o", "tova"} {
		b.Run(policy, func(b *testing.B) {
			var prefill, decode [2]time.Duration
			for b.Loop() {
				for i, state := range []string{"", "+less"} {
					s := newSequenceEvery(b, c, policy+state, cache.Budget{Percent: 5}, 16)
					prefill[i] += feed(b, c, s, tokens[:prompt], block)
					decode[i] += feed(b, c, s, tokens[prompt:], 1)
				}
			}
			b.ReportMetric(0, "ns/op")
			for i, state := range []string{"plain", "less"} {
				b.ReportMetric(prompt*float64(b.N)/prefill[i].Seconds(), fmt.Sprintf("prefill-%s-tokens/s", state))
				b.ReportMetric(steps*float64(b.N)/decode[i].Seconds(), fmt.Sprintf("decode-%s-tokens/s", state))
			}
			b.ReportMetric(prefill[0].Seconds()/prefill[1].Seconds(), "prefill-ratio")
			b.ReportMetric(decode[0].Seconds()/decode[1].Seconds(), "decode-ratio")
		})
	}
}

// feed returns the time that a sequence takes for tokens in blocks.
func feed(b *testing.B, c *CPU, s *cache.Sequence, tokens []int32, block int) time.Duration {
	began := time.Now()
	for from := 0; from < len(tokens); from += block {
		if _, err := c.Forward([]Work{{Sequence: s, Tokens: tokens[from:min(len(tokens), from+block)], Logits: block == 1}}); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}
