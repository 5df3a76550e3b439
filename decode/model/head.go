package model

import (
	"math"

	"lessrag/lesskernels/cpu"
)

// score computes how likely every wanted target was, scoreRows rows at a time.
func (c *CPU) score(b *batch) {
	for i := range b.blocks {
		block, targets := &b.blocks[i], b.works[i].Targets
		if targets == nil {
			continue
		}
		scores := make([]Score, block.n)
		defer c.Clock.Mark(Logits)
		for from := 0; from < block.n; from += scoreRows {
			to := min(block.n, from+scoreRows)
			c.unembedAll(c.finish(block.first+from, block.first+to, 0))
			c.eachRow(to-from, func(row int) {
				scores[from+row] = NewScore(rowOf(c.out, row, c.config.Vocab), targets[from+row])
			})
		}
		b.results[i].Scores = scores
	}
}

// logits computes the last rows of the Works that ask, all at once.
func (c *CPU) logits(b *batch) {
	wanted := 0
	for i := range b.blocks {
		if b.works[i].Logits {
			last := b.blocks[i].first + b.blocks[i].n - 1
			wanted = c.finish(last, last+1, wanted)
		}
	}
	if wanted == 0 {
		return
	}
	defer c.Clock.Mark(Logits)
	c.unembed(wanted)
	row := 0
	for i := range b.blocks {
		if b.works[i].Logits {
			b.results[i].Logits = rowOf(c.out, row, c.config.Vocab)
			row++
		}
	}
}

// finish normalises rows from…to of the residual stream into normed, beginning at
// row at, and returns the row after the last. The stream itself stays as it is.
func (c *CPU) finish(from, to, at int) int {
	width := c.config.Width
	for row := from; row < to; row++ {
		cpu.RMSNorm(rowOf(c.normed, at, width), rowOf(c.x, row, width), c.weights.outputNorm, c.config.Epsilon)
		at++
	}
	return at
}

// likelyLogits is how far below the highest logit of a row others are computed from
// pairs of codes. It is far more than what rounding to codes changes a logit by, so that
// the most likely token is found as if all were; what lies lower is at most e⁻³ times as
// likely. Of running text some seven in three thousand panels are computed again.
const likelyLogits = 3

// unembed multiplies the first rows of normed with the output matrix.
func (c *CPU) unembed(rows int) {
	c.input.Set(c.normed, rows, c.config.Width)
	c.weights.output.MulRefined(c.pool, c.out, &c.input, likelyLogits)
}

// unembedAll is unembed where an unlikely token may be asked for: all logits are
// computed from pairs of codes.
func (c *CPU) unembedAll(rows int) {
	c.input.Set(c.normed, rows, c.config.Width)
	cpu.MulAll(c.pool, &c.input, cpu.Product{Matrix: c.weights.output, Dst: c.out, Pairs: true})
}

// NewScore takes the log-softmax of one row of logits at the target, in float64.
func NewScore(logits []float32, target int32) Score {
	best := 0
	for i, x := range logits {
		if x > logits[best] {
			best = i
		}
	}
	var sum float64
	for _, x := range logits {
		sum += math.Exp(float64(x - logits[best]))
	}
	return Score{NLL: math.Log(sum) - float64(logits[target]-logits[best]), Best: int32(best)}
}
