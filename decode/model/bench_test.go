package model

import (
	"fmt"
	"testing"
	"time"

	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/lesskernels/cpu"
)

// BenchmarkPass is a pass of the default reader: decoding, batch sequences of about
// 100 tokens each get one more, and the prefill of 512 tokens in blocks. It reports
// tokens/s and the milliseconds of every stage in a pass.
func BenchmarkPass(b *testing.B) {
	c := newCPU(b, readerPath(), Int8, Limits{Tokens: 512, Sequences: 16})
	tokens := make([]int32, 512)
	for i := range tokens {
		tokens[i] = int32(1000 + i*37%40000)
	}
	for _, batch := range []int{1, 2, 4, 8, 16} {
		b.Run(fmt.Sprintf("decode/batch=%d", batch), func(b *testing.B) {
			works := make([]Work, batch)
			for i := range works {
				works[i] = Work{Sequence: newSequence(b, c, "full", cache.Budget{Tokens: 2000}), Tokens: tokens[i : i+100]}
				forward(b, c, works[i])
				works[i] = Work{Sequence: works[i].Sequence, Tokens: tokens[i : i+1], Logits: true}
			}
			fed := 100
			passes(b, c, batch, func() {
				if fed++; fed > 200 { // stay short
					fed = 100
					for i := range works {
						works[i].Sequence = newSequence(b, c, "full", cache.Budget{Tokens: 2000})
						forward(b, c, Work{Sequence: works[i].Sequence, Tokens: tokens[i : i+100]})
					}
				}
			}, works)
		})
	}
	for _, block := range []int{128, 256, 512} {
		b.Run(fmt.Sprintf("prefill/block=%d", block), func(b *testing.B) {
			works := []Work{{Logits: false}}
			at := 512
			passes(b, c, block, func() {
				if at += block; at >= 512 {
					at = 0
					works[0].Sequence = newSequence(b, c, "full", cache.Budget{Tokens: 600})
				}
				works[0].Tokens = tokens[at : at+block]
				works[0].Logits = at+block == 512
			}, works)
		})
	}
}

// passes times Forward, prepared by a function that is not timed.
func passes(b *testing.B, c *CPU, tokens int, prepare func(), works []Work) {
	clock := &Clock{}
	defer func() { c.Clock = nil }()
	var spent time.Duration
	n := 0
	for b.Loop() {
		c.Clock = nil
		prepare()
		c.Clock = clock
		began := time.Now()
		clock.Start()
		if _, err := c.Forward(works); err != nil {
			b.Fatal(err)
		}
		spent += time.Since(began)
		n++
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(n*tokens)/spent.Seconds(), "tokens/s")
	p := clock.Profile()
	for s, d := range p.Spent {
		if d > 0 {
			b.ReportMetric(d.Seconds()*1e3/float64(n), Stage(s).String()+"-ms")
		}
	}
}

// BenchmarkLoad is the repacking of the default reader.
func BenchmarkLoad(b *testing.B) {
	pool := cpu.NewPool(0)
	defer pool.Close()
	for b.Loop() {
		f, err := gguf.Open(readerPath())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := NewCPU(f, Int8, Limits{Tokens: 160, Sequences: 32}, pool); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
