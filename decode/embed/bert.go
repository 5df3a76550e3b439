package embed

import (
	"context"
	"math"
	"slices"
	"sync"

	"lessrag/lesskernels/cpu"
)

// encoder is BERT (arXiv 1810.04805): weights and the scratch of one batch.
type encoder struct {
	config
	pool      *cpu.Pool
	isa       cpu.ISA
	words     []float32 // [vocabulary, hidden]
	positions []float32 // [positions, hidden], token type 0 added
	second    []float32 // [hidden], what token type 1 has over type 0; nil where there is one type
	norm      layerNorm
	layers    []layer
	scratch   scratch
}

// scratch holds a batch of n rows, the tokens of all of its texts.
type scratch struct {
	input   cpu.Input
	x       []float32 // [n, hidden] the residual stream
	qkv     []float32 // [n, 3·hidden]
	queries []float32 // per text and head: [tokens, headDim]
	keys    []float32 // likewise
	values  []float32 // likewise
	heads   []float32 // likewise: what each head gathered
	sums    []float32 // per text and head: [tokens], which Attend returns and nobody needs
	context []float32 // [n, hidden] what all heads gathered
	visible []int32   // [n] how many tokens each sees: all of its text
	workers sync.Pool // of *cpu.Scratch
	y       []float32 // [n, hidden] a block's output
	wide    []float32 // [n, intermediate]
}

// span is where a text's rows stand in a batch.
type span struct{ start, n int }

// rowsPerTask is the unit of work for what is done row by row.
const rowsPerTask = 16

// text is a text's token ids; those from second on have token type 1.
type text struct {
	ids    []int32
	second int
}

// alone is a text of one type.
func alone(ids []int32) text { return text{ids, len(ids)} }

// encode runs texts through the encoder; their last hidden states stand in
// scratch.x as the spans say. It stops between layers when ctx ends.
func (e *encoder) encode(ctx context.Context, texts []text) ([]span, error) {
	spans, rows := layOut(texts)
	s := &e.scratch
	s.grow(e.config, rows)
	for _, t := range spans {
		for i := range t.n {
			s.visible[t.start+i] = int32(t.n)
		}
	}
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
	return spans, nil
}

func layOut(texts []text) (spans []span, rows int) {
	for _, t := range texts {
		spans = append(spans, span{rows, len(t.ids)})
		rows += len(t.ids)
	}
	return spans, rows
}

// grow makes room for n rows; what is there already is kept for later batches.
func (s *scratch) grow(c config, n int) {
	for _, b := range []struct {
		buffer *[]float32
		width  int
	}{
		{&s.x, c.Hidden}, {&s.qkv, 3 * c.Hidden}, {&s.queries, c.Hidden}, {&s.keys, c.Hidden}, {&s.values, c.Hidden}, {&s.heads, c.Hidden},
		{&s.sums, c.Heads}, {&s.context, c.Hidden}, {&s.y, c.Hidden}, {&s.wide, c.Intermediate},
	} {
		if cap(*b.buffer) < n*b.width {
			*b.buffer = make([]float32, n*b.width)
		}
		*b.buffer = (*b.buffer)[:n*b.width]
	}
	s.visible = slices.Grow(s.visible[:0], n)[:n]
}

// look fills x with the embeddings of words, positions and token types.
func (e *encoder) look(texts []text, spans []span) {
	h := e.Hidden
	for n, t := range texts {
		for i, id := range t.ids {
			row := e.scratch.x[(spans[n].start+i)*h:][:h]
			copy(row, e.words[int(id)*h:][:h])
			cpu.Axpy(row, 1, e.positions[i*h:][:h])
			if i >= t.second {
				cpu.Axpy(row, 1, e.second)
			}
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

// attendHead is one head over one text.
func (e *encoder) attendHead(t span, head int) {
	h, dim, s := e.Hidden, e.headDimension, &e.scratch
	at, size := t.start*h+head*dim*t.n, dim*t.n
	queries, keys, values, gathered := s.queries[at:][:size], s.keys[at:][:size], s.values[at:][:size], s.heads[at:][:size]
	for i := range t.n {
		row := s.qkv[(t.start+i)*3*h+head*dim:]
		copy(queries[i*dim:], row[:dim])
		copy(keys[i*dim:], row[h:][:dim])
		copy(values[i*dim:], row[2*h:][:dim])
	}
	worker, ok := s.workers.Get().(*cpu.Scratch)
	if !ok {
		worker = new(cpu.Scratch)
	}
	defer s.workers.Put(worker)
	sums := s.sums[t.start*e.Heads+head*t.n:][:t.n]
	scale := float32(1 / math.Sqrt(float64(dim)))
	cpu.AttendFloat32(e.isa, gathered, sums, queries, keys, values, 1, dim, s.visible[t.start:][:t.n], scale, worker)
	for i := range t.n {
		copy(s.context[(t.start+i)*h+head*dim:], gathered[i*dim:][:dim])
	}
}

// vectors returns the unit vector of the mean row of every text, or of its first.
func (e *encoder) vectors(spans []span) [][]float32 {
	all := make([][]float32, len(spans))
	for t, s := range spans {
		v := make([]float32, e.Hidden)
		n := s.n
		if e.first {
			n = 1
		}
		for i := range n {
			cpu.Axpy(v, 1, e.scratch.x[(s.start+i)*e.Hidden:][:e.Hidden])
		}
		inverse := float32(1 / math.Sqrt(float64(cpu.Dot(v, v))))
		for i := range v {
			v[i] *= inverse
		}
		all[t] = v
	}
	return all
}
