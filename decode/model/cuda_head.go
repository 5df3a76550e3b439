package model

import (
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// score computes how likely every wanted target was, scoreRows rows at a time.
func (c *CUDA) score(b *cudaBatch) {
	picked, vocab := 0, c.config.Vocab
	for i := range b.blocks {
		targets := b.works[i].Targets
		if targets == nil {
			continue
		}
		scores := make([]Score, len(targets))
		for from := 0; from < len(targets); from += scoreRows {
			n := min(scoreRows, len(targets)-from)
			c.unembed(b, picked+from, n, c.host)
			for row := range n {
				scores[from+row] = NewScore(rowOf(c.host, row, vocab), targets[from+row])
			}
		}
		picked += len(targets)
		b.results[i].Scores = scores
	}
}

// logits computes the last rows of the Works that ask, all at once.
func (c *CUDA) logits(b *cudaBatch) {
	wanted := 0
	for i := range b.blocks {
		if b.works[i].Logits {
			b.results[i].Logits = rowOf(c.results, wanted, c.config.Vocab)
			wanted++
		}
	}
	if wanted > 0 {
		c.unembed(b, len(b.pick.values)-wanted, wanted, c.results)
	}
}

// unembed brings the logits of n picked rows, from one on, to the host.
func (c *CUDA) unembed(b *cudaBatch, from, n int, to []float32) {
	pick := b.pick.at + device.Pointer(4*from)
	c.check(c.kernels.PickNorm(c.stream, c.x, pick, c.weights.outputNorm, c.normed, n, c.config.Width, c.config.Epsilon))
	c.check(c.kernels.Multiply(c.stream, c.weights.output, c.normed, c.out, n, c.config.Vocab))
	c.download(to[:n*c.config.Vocab], int64(c.out/4))
}

// download reads numbers that begin at a number of f32 from 0.
func (c *CUDA) download(to []float32, at int64) {
	if c.failed == nil {
		c.check(c.stream.Download(cuda.Bytes(to), device.Pointer(4*at)))
	}
}
