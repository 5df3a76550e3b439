package model

import (
	"errors"
	"fmt"

	"lessrag/lesskernels/cpu"
)

// Layerwise runs a model over whole sequences one layer at a time, with
// attention that the caller computes: how feature maps are trained and gated.
// Nothing is cached; a sequence begins at position 0 and its residual stream is
// the caller's. It uses the backend's scratch: no Forward runs beside it.
type Layerwise struct {
	c *CPU
	b batch
}

// Heads is one layer's attention over a sequence of n tokens. The slices are
// valid until the next layer.
type Heads struct {
	Tokens     int
	PreQ, PreK []float32 // [n, heads, headDim], [n, kvHeads, headDim] before positions turn them
	Q          []float32 // [n, heads, headDim]
	K, V       []uint16  // [kvHeads, n, headDim] bf16, as caches store them
	Out        []float32 // [n, heads, headDim] to be filled
}

// NewLayerwise refuses reference math, whose keys are stored in two parts.
func NewLayerwise(c *CPU) (*Layerwise, error) {
	if c.stored != c.config.HeadDim {
		return nil, errors.New("model: feature maps are trained with int8 math, as they are used")
	}
	return &Layerwise{c: c}, nil
}

// Embed returns the residual stream [n, width] that enters the first layer.
func (l *Layerwise) Embed(tokens []int32) ([]float32, error) {
	c := l.c
	if len(tokens) == 0 || len(tokens) > min(c.limits.Tokens, c.config.Context) {
		return nil, fmt.Errorf("model: a sequence of %d tokens, outside 1…%d", len(tokens), min(c.limits.Tokens, c.config.Context))
	}
	for i, token := range tokens {
		if token < 0 || int(token) >= c.config.Vocab {
			return nil, fmt.Errorf("model: token %d is %d, outside the vocabulary of %d", i, token, c.config.Vocab)
		}
	}
	x := make([]float32, len(tokens)*c.config.Width)
	c.eachRow(len(tokens), func(row int) {
		c.weights.embedding.Row(rowOf(x, row, c.config.Width), int(tokens[row]))
	})
	return x, nil
}

// Layer replaces x [n, width], what enters a layer, by what leaves it. attend
// fills Out.
func (l *Layerwise) Layer(layer int, x []float32, attend func(*Heads)) {
	c, b := l.c, &l.b
	n := len(x) / c.config.Width
	l.lay(n)
	copy(c.x, x)
	w := &c.weights.layers[layer]
	c.norm(b, w.attentionNorm)
	cpu.MulAll(c.pool, &c.input, c.heads(w)...)
	q, k := n*c.config.Heads*c.config.HeadDim, n*c.config.KVHeads*c.config.HeadDim
	h := &Heads{Tokens: n, PreQ: append([]float32(nil), c.q[:q]...), PreK: append([]float32(nil), c.k[:k]...)}
	c.rope(b)
	h.Q, h.K, h.V, h.Out = c.q[:q], c.blockK[:k], c.blockV[:k], c.attention[:q]
	attend(h)
	c.project(b, w)
	c.norm(b, w.ffnNorm)
	c.feedForward(b, w)
	copy(x, c.x)
}

// lay makes a batch of one block of n tokens from position 0 on.
func (l *Layerwise) lay(n int) {
	c, b := l.c, &l.b
	*b = batch{blocks: append(b.blocks[:0], block{n: n}), positions: b.positions[:0], owner: b.owner[:0], rows: n}
	for i := range n {
		b.positions, b.owner = append(b.positions, i), append(b.owner, 0)
	}
	half := c.config.HeadDim / 2
	c.eachRow(n, func(row int) {
		rotation(rowOf(c.cos, row, half), rowOf(c.sin, row, half), c.frequencies, row)
	})
}

// Dense fills Out with causal attention over all tokens.
func (l *Layerwise) Dense(h *Heads) {
	c := l.c
	group, dim := c.config.Group(), c.config.HeadDim
	tiles := (h.Tokens + tileQueries - 1) / tileQueries
	c.run(tiles*c.config.KVHeads, func(task int, w *attendWorker) {
		kvHead, from := task%c.config.KVHeads, (tiles-1-task/c.config.KVHeads)*tileQueries // the longest first
		n := min(tileQueries, h.Tokens-from)
		for i := range n {
			c.gather(w.q[i*group*dim:], from+i, kvHead)
			w.visible[i] = int32(from + i + 1)
		}
		k, v := rowOf(h.K, kvHead, h.Tokens*dim), rowOf(h.V, kvHead, h.Tokens*dim)
		cpu.Attend(c.isa, w.out[:n*group*dim], w.lse[:n*group], w.q[:n*group*dim], k, v, group, dim, w.visible[:n], c.scale, &w.kernel)
		for i := range n {
			c.scatter(from+i, kvHead, w.out[i*group*dim:])
		}
	})
}

// Scores takes the stream that left the last layer, and tells how well it
// predicts each target: targets[i] follows the token at position from+i.
func (l *Layerwise) Scores(x []float32, from int, targets []int32) []Score {
	c := l.c
	width, n := c.config.Width, len(targets)
	copy(c.x, x[from*width:(from+n)*width])
	scores := make([]Score, n)
	for at := 0; at < n; at += scoreRows {
		to := min(n, at+scoreRows)
		c.unembedAll(c.finish(at, to, 0))
		c.eachRow(to-at, func(row int) {
			scores[at+row] = NewScore(rowOf(c.out, row, c.config.Vocab), targets[at+row])
		})
	}
	return scores
}

// Output is a layer's output projection in float32: [width, heads·headDim].
func (l *Layerwise) Output(layer int) []float32 {
	m := l.c.weights.layers[layer].o
	w := make([]float32, m.Rows()*m.Cols())
	for row := range m.Rows() {
		m.Row(rowOf(w, row, m.Cols()), row)
	}
	return w
}
