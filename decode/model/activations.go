package model

import (
	"math"

	"lessrag/lesskernels/cpu"
)

// activations are the scratch of a forward pass, taken once for the largest
// batch. Rows are the tokens of a batch, its Works one after the other.
type activations struct {
	input        cpu.Input
	hidden       cpu.Input // of the down projection
	x            []float32 // [tokens, width] residual stream
	normed       []float32 // [tokens, width]
	q            []float32 // [tokens, heads, headDim]
	k, v         []float32 // [tokens, kvHeads, headDim]
	attention    []float32 // [tokens, heads, headDim]
	lse          []float32 // [tokens, heads] log-sum-exp over what is held exactly
	before       []float32 // [tokens, heads, headDim] q before rotation, where feature maps are loaded
	gate, up     []float32 // [tokens, hidden]
	cos, sin     []float32 // [tokens, headDim/2]
	blockK       []uint16  // [Works][kvHeads, n, stored] bf16, post-RoPE
	blockV       []uint16
	blockColumns []float32 // [Works][kvHeads, group, n] attention over the block's own tokens
	out          []float32 // [logit rows, vocab]

	rowWeights []float32 // of the spans of blocks of one row: see span
	tileSums   []float32 // of the tiles of weighed heads

	workers  []*attendWorker // one for each thread
	partials partials
}

// scoreRows is how many rows of logits are computed at once for Targets.
const scoreRows = 32

func newActivations(c Config, stored int, limits Limits, threads int) activations {
	t := limits.Tokens
	rows := max(limits.Sequences, min(scoreRows, t))
	a := activations{
		x:            make([]float32, t*c.Width),
		normed:       make([]float32, t*c.Width),
		q:            make([]float32, t*c.Heads*c.HeadDim),
		k:            make([]float32, t*c.KVHeads*c.HeadDim),
		v:            make([]float32, t*c.KVHeads*c.HeadDim),
		attention:    make([]float32, t*c.Heads*c.HeadDim),
		lse:          make([]float32, t*c.Heads),
		blockColumns: make([]float32, t*c.Heads),
		gate:         make([]float32, t*c.Hidden),
		up:           make([]float32, t*c.Hidden),
		cos:          make([]float32, t*c.HeadDim/2),
		sin:          make([]float32, t*c.HeadDim/2),
		blockK:       make([]uint16, t*c.KVHeads*stored),
		blockV:       make([]uint16, t*c.KVHeads*stored),
		out:          make([]float32, rows*c.Vocab),
	}
	for range threads {
		a.workers = append(a.workers, newAttendWorker(c.Group(), stored))
	}
	return a
}

// fewRows are done by one thread sooner than by several.
const fewRows = 4

// eachRow calls f for every row, in parallel where there are some.
func (c *CPU) eachRow(rows int, f func(row int)) {
	if rows < fewRows {
		for row := range rows {
			f(row)
		}
		return
	}
	c.pool.Run(rows, f)
}

// rowOf is row i of a matrix with cols columns.
func rowOf[T float32 | uint16](m []T, i, cols int) []T {
	return m[i*cols : (i+1)*cols : (i+1)*cols]
}

func add(x, y []float32) { cpu.Axpy(x, 1, y[:len(x)]) }

// rotation fills cos and sin, [headDim/2], for one position.
func rotation(cos, sin []float32, frequencies []float64, position int) {
	for i, frequency := range frequencies {
		s, c := math.Sincos(float64(position) * frequency)
		cos[i], sin[i] = float32(c), float32(s)
	}
}
