package model

import (
	"slices"

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
			c.unembed(b, picked+from, n)
			c.download(cuda.Bytes(c.host[:n*vocab]), c.out)
			for row := range n {
				scores[from+row] = NewScore(rowOf(c.host, row, vocab), targets[from+row])
			}
		}
		picked += len(targets)
		b.results[i].Scores = scores
	}
}

// head computes the logits of the last rows of the Works that ask, all at once, and finds the likeliest tokens
// of those to whom these are enough.
func (c *CUDA) head(b *cudaBatch) {
	n := len(b.heat.values)
	if n == 0 {
		return
	}
	c.unembed(b, len(b.pick.values)-n, n)
	if b.searches() {
		c.check(c.kernels.Likely(c.stream, &cuda.Likely{Rows: n, Vocab: c.config.Vocab, Logits: c.out, Count: b.count.at, Heat: b.heat.at,
			Scratch: c.search, Out: c.likely}))
	}
}

// searches tells whether the likeliest tokens are wanted of a row.
func (b *cudaBatch) searches() bool { return len(b.count.values) > 0 && slices.Max(b.count.values) > 0 }

// logits brings what head has left to the host.
func (c *CUDA) logits(b *cudaBatch) {
	if b.searches() {
		c.download(cuda.Bytes(c.found[:len(b.heat.values)*likelyRow]), c.likely)
	}
	row := 0
	for i := range b.blocks {
		switch work := &b.works[i]; {
		case !work.Logits:
			continue
		case b.count.values[row] > 0:
			b.results[i].Likely = c.likeliest(row, int(b.count.values[row]))
		default:
			b.results[i].Logits = c.row(row)
		}
		row++
	}
}

// likelyRow is how many numbers the search leaves of a row.
const likelyRow = cuda.Likeliest + 1

func (c *CUDA) likeliest(row, n int) *Likely {
	found := c.found[row*likelyRow:][:likelyRow]
	l := &Likely{Tokens: make([]Token, min(n, c.config.Vocab)), Sum: float64(cuda.LikelySum(found[cuda.Likeliest])), Vocab: c.config.Vocab}
	for i := range l.Tokens {
		l.Tokens[i].ID, l.Tokens[i].Logit = cuda.LikelyToken(found[i])
	}
	l.All = func() ([]float32, error) {
		logits := c.row(row)
		return logits, c.failed
	}
	return l
}

// row brings a row of logits to the host.
func (c *CUDA) row(row int) []float32 {
	to := rowOf(c.results, row, c.config.Vocab)
	c.download(cuda.Bytes(to), c.out+device.Pointer(4*row*c.config.Vocab))
	return to
}

// unembed computes the logits of n picked rows, from one on.
func (c *CUDA) unembed(b *cudaBatch, from, n int) {
	pick := b.pick.at + device.Pointer(4*from)
	c.check(c.kernels.PickNorm(c.stream, c.x, pick, c.weights.outputNorm, c.normed, n, c.config.Width, c.config.Epsilon))
	c.check(c.kernels.Multiply(c.stream, c.weights.output, c.normed, c.out, n, c.config.Vocab))
}

// download reads memory of the device.
func (c *CUDA) download(to []byte, from device.Pointer) {
	if c.failed == nil {
		c.check(c.stream.Download(to, from))
	}
}
