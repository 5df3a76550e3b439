package embed

import (
	"context"
	"math"

	"lessrag/lesskernels/cpu"
)

// encoder is BERT (arXiv 1810.04805): weights and the scratch of one batch.
type encoder struct {
	config
	pool      *cpu.Pool
	words     []float32 // [vocabulary, hidden]
	positions []float32 // [positions, hidden], token type 0 added
	norm      layerNorm
	layers    []layer
	scratch   scratch
}

// scratch holds a batch of n rows, the tokens of all of its texts.
type scratch struct {
	input   cpu.Input
	x       []float32 // [n, hidden] the residual stream
	qkv     []float32 // [n, 3·hidden]
	keys    []float32 // per text and head: [headDim, tokens], transposed
	values  []float32 // likewise
	scores  []float32 // per text and head: [tokens], one query's
	context []float32 // [n, hidden] what attention gathered
	y       []float32 // [n, hidden] a block's output
	wide    []float32 // [n, intermediate]
}

// span is where a text's rows stand in a batch.
type span struct{ start, n int }

// rowsPerTask is the unit of work for what is done row by row.
const rowsPerTask = 16

// encode runs texts, given as token ids, through the encoder and returns the
// mean of each one's last hidden states, [hidden], as a unit vector. It stops
// between layers when ctx ends.
func (e *encoder) encode(ctx context.Context, texts [][]int32) ([][]float32, error) {
	spans, rows := layOut(texts)
	s := &e.scratch
	s.grow(e.config, rows)
	e.look(texts, spans)
	for i := range e.layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l := &e.layers[i]
		e.multiply(&l.qkv, s.qkv, s.x, rows)
		e.attend(spans)
		e.multiply(&l.out, s.y, s.context, rows)
		e.addNorm(&l.norm, rows)
		e.multiply(&l.up, s.wide, s.x, rows)
		e.gelu(rows)
		e.multiply(&l.down, s.y, s.wide, rows)
		e.addNorm(&l.ffNorm, rows)
	}
	return e.average(spans), nil
}

func layOut(texts [][]int32) (spans []span, rows int) {
	for _, ids := range texts {
		spans = append(spans, span{rows, len(ids)})
		rows += len(ids)
	}
	return spans, rows
}

// grow makes room for n rows; what is there already is kept for later batches.
func (s *scratch) grow(c config, n int) {
	for _, b := range []struct {
		buffer *[]float32
		width  int
	}{
		{&s.x, c.Hidden}, {&s.qkv, 3 * c.Hidden}, {&s.keys, c.Hidden}, {&s.values, c.Hidden},
		{&s.scores, c.Heads}, {&s.context, c.Hidden}, {&s.y, c.Hidden}, {&s.wide, c.Intermediate},
	} {
		if cap(*b.buffer) < n*b.width {
			*b.buffer = make([]float32, n*b.width)
		}
		*b.buffer = (*b.buffer)[:n*b.width]
	}
}

// look fills x with the embeddings of words, positions and token type 0.
func (e *encoder) look(texts [][]int32, spans []span) {
	h := e.Hidden
	for t, ids := range texts {
		for i, id := range ids {
			row := e.scratch.x[(spans[t].start+i)*h:][:h]
			copy(row, e.words[int(id)*h:][:h])
			cpu.Axpy(row, 1, e.positions[i*h:][:h])
			cpu.LayerNorm(row, row, e.norm.weight, e.norm.bias, e.Epsilon)
		}
	}
}

// multiply writes x [rows, in] · Wᵀ + bias to dst [rows, out].
func (e *encoder) multiply(l *linear, dst, x []float32, rows int) {
	e.scratch.input.Set(x, rows, l.weight.Cols())
	l.weight.Mul(e.pool, dst, &e.scratch.input)
	n := len(l.bias)
	e.eachRow(rows, func(i int) { cpu.Axpy(dst[i*n:][:n], 1, l.bias) })
}

// addNorm adds y to the residual stream and normalises it.
func (e *encoder) addNorm(w *layerNorm, rows int) {
	h := e.Hidden
	e.eachRow(rows, func(i int) {
		x := e.scratch.x[i*h:][:h]
		cpu.Axpy(x, 1, e.scratch.y[i*h:][:h])
		cpu.LayerNorm(x, x, w.weight, w.bias, e.Epsilon)
	})
}

func (e *encoder) gelu(rows int) {
	n := e.Intermediate
	e.eachRow(rows, func(i int) {
		row := e.scratch.wide[i*n:][:n]
		cpu.GELU(row, row)
	})
}

// eachRow calls f for every row, shared out over the pool.
func (e *encoder) eachRow(rows int, f func(row int)) {
	e.pool.Run((rows+rowsPerTask-1)/rowsPerTask, func(task int) {
		for i := task * rowsPerTask; i < min((task+1)*rowsPerTask, rows); i++ {
			f(i)
		}
	})
}

// attend fills context: every token of a text sees all tokens of that text.
func (e *encoder) attend(spans []span) {
	e.pool.Run(len(spans)*e.Heads, func(task int) {
		e.attendHead(spans[task/e.Heads], task%e.Heads)
	})
}

// attendHead is one head over one text. Keys and values are transposed first,
// so that both inner loops run along the tokens and not along the few values
// of a head.
func (e *encoder) attendHead(t span, head int) {
	h, dim, s := e.Hidden, e.headDimension, &e.scratch
	keys := s.keys[t.start*h+head*dim*t.n:][:dim*t.n]     // [dim, tokens]
	values := s.values[t.start*h+head*dim*t.n:][:dim*t.n] // [dim, tokens]
	scores := s.scores[t.start*e.Heads+head*t.n:][:t.n]
	for i := range t.n {
		row := s.qkv[(t.start+i)*3*h+head*dim:]
		for d := range dim {
			keys[d*t.n+i] = row[h+d]
			values[d*t.n+i] = row[2*h+d]
		}
	}
	scale := float32(1 / math.Sqrt(float64(dim)))
	for i := range t.n {
		query := s.qkv[(t.start+i)*3*h+head*dim:][:dim]
		clear(scores)
		for d, q := range query {
			cpu.Axpy(scores, q*scale, keys[d*t.n:][:t.n])
		}
		cpu.Softmax(scores)
		out := s.context[(t.start+i)*h+head*dim:][:dim]
		for d := range out {
			out[d] = cpu.Dot(scores, values[d*t.n:][:t.n])
		}
	}
}

// average returns the unit vector of the mean row of every text.
func (e *encoder) average(spans []span) [][]float32 {
	vectors := make([][]float32, len(spans))
	for t, s := range spans {
		v := make([]float32, e.Hidden)
		for i := range s.n {
			cpu.Axpy(v, 1, e.scratch.x[(s.start+i)*e.Hidden:][:e.Hidden])
		}
		inverse := float32(1 / math.Sqrt(float64(cpu.Dot(v, v))))
		for i := range v {
			v[i] *= inverse
		}
		vectors[t] = v
	}
	return vectors
}
