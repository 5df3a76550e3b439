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
	rounds    bool      // weights are of 13 bits, and attention is in 16; else all is float32
	words     []float32 // [vocabulary, hidden]
	positions []float32 // [positions, hidden], token type 0 added
	second    []float32 // [hidden], what token type 1 has over type 0; nil where there is one type
	norm      layerNorm
	layers    []layer
	scratch   scratch
}

// scratch holds a batch of n rows, the tokens of all of its texts.
type scratch struct {
	input    cpu.Input
	products []cpu.Product
	ids      []int32   // [n]
	places   []int32   // [n] in their texts
	second   []bool    // [n] whether they have token type 1
	visible  []int32   // [n] how many tokens each sees: all of its text
	x        []float32 // [n, hidden] the residual stream
	queries  []float32 // [heads, n, headDim]
	keys     []float32 // likewise
	values   []float32 // likewise
	rounded  []uint16  // [2, heads, n, headDim] keys and values in bf16
	gathered []float32 // [heads, n, headDim]
	sums     []float32 // [heads, n] which Attend returns and nobody needs
	context  []float32 // [n, hidden] what all heads gathered
	workers  sync.Pool // of *cpu.Scratch
	y        []float32 // [n, hidden] a block's output
	wide     []float32 // [n, intermediate]
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
//
// What is done to single rows waits until a product reads them: see cpu.Input.SetEach.
func (e *encoder) encode(ctx context.Context, texts []text) ([]span, error) {
	s := &e.scratch
	spans, rows := s.layOut(e.config, texts)
	finish := e.look
	for i := range e.layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l := &e.layers[i]
		s.input.SetEach(s.x, rows, e.Hidden, finish)
		e.project(l.heads, rows)
		e.attend(l.heads, spans, rows)
		s.input.SetEach(s.context, rows, e.Hidden, func(i int) { e.gather(i, rows) })
		l.out.weight.Mul(e.pool, s.y, &s.input)
		s.input.SetEach(s.x, rows, e.Hidden, e.addNorm(l.out.bias, &l.norm))
		l.up.weight.Mul(e.pool, s.wide, &s.input)
		s.input.SetEach(s.wide, rows, e.Intermediate, e.gelu(l.up.bias))
		l.down.weight.Mul(e.pool, s.y, &s.input)
		finish = e.addNorm(l.down.bias, &l.ffNorm)
	}
	e.eachRow(rows, finish)
	return spans, nil
}

// layOut puts the texts one after the other and makes room for their rows; what is
// there already is kept for later batches.
func (s *scratch) layOut(c config, texts []text) (spans []span, n int) {
	s.ids, s.places, s.second, s.visible = s.ids[:0], s.places[:0], s.second[:0], s.visible[:0]
	for _, t := range texts {
		spans = append(spans, span{n, len(t.ids)})
		n += len(t.ids)
		s.ids = append(s.ids, t.ids...)
		for i := range t.ids {
			s.places, s.second, s.visible = append(s.places, int32(i)), append(s.second, i >= t.second), append(s.visible, int32(len(t.ids)))
		}
	}
	for _, b := range []struct {
		buffer *[]float32
		width  int
	}{
		{&s.x, c.Hidden}, {&s.queries, c.Hidden}, {&s.keys, c.Hidden}, {&s.values, c.Hidden}, {&s.gathered, c.Hidden},
		{&s.sums, c.Heads}, {&s.context, c.Hidden}, {&s.y, c.Hidden}, {&s.wide, c.Intermediate},
	} {
		*b.buffer = slices.Grow((*b.buffer)[:0], n*b.width)[:n*b.width]
	}
	s.rounded = slices.Grow(s.rounded[:0], 2*n*c.Hidden)[:2*n*c.Hidden]
	return spans, n
}

// look makes row i of x the embedding of its word, its place and its token type.
func (e *encoder) look(i int) {
	h, s := e.Hidden, &e.scratch
	row := s.x[i*h:][:h]
	copy(row, e.words[int(s.ids[i])*h:][:h])
	cpu.Axpy(row, 1, e.positions[int(s.places[i])*h:][:h])
	if s.second[i] {
		cpu.Axpy(row, 1, e.second)
	}
	cpu.LayerNorm(row, row, e.norm.weight, e.norm.bias, e.Epsilon)
}

// project writes the queries, keys and values of every head, without biases.
func (e *encoder) project(heads []head, rows int) {
	s, size := &e.scratch, rows*e.headDimension
	s.products = s.products[:0]
	for i, h := range heads {
		at := i * size
		s.products = append(s.products, cpu.Product{Matrix: h.query.weight, Dst: s.queries[at:][:size]},
			cpu.Product{Matrix: h.keys, Dst: s.keys[at:][:size]}, cpu.Product{Matrix: h.values, Dst: s.values[at:][:size]})
	}
	cpu.MulAll(e.pool, &s.input, s.products...)
}

// addNorm adds y and a bias to a row of the residual stream and normalises it.
func (e *encoder) addNorm(bias []float32, w *layerNorm) func(i int) {
	h, s := e.Hidden, &e.scratch
	return func(i int) {
		x := s.x[i*h:][:h]
		cpu.Axpy(x, 1, s.y[i*h:][:h])
		cpu.Axpy(x, 1, bias)
		cpu.LayerNorm(x, x, w.weight, w.bias, e.Epsilon)
	}
}

func (e *encoder) gelu(bias []float32) func(i int) {
	n, s := e.Intermediate, &e.scratch
	return func(i int) {
		row := s.wide[i*n:][:n]
		cpu.Axpy(row, 1, bias)
		cpu.GELU(row, row)
	}
}

// eachRow calls f for every row, shared out over the pool.
func (e *encoder) eachRow(rows int, f func(row int)) {
	e.pool.Run((rows+rowsPerTask-1)/rowsPerTask, func(task int) {
		for i := task * rowsPerTask; i < min((task+1)*rowsPerTask, rows); i++ {
			f(i)
		}
	})
}

// attend lets every token of a text see all tokens of that text.
func (e *encoder) attend(heads []head, spans []span, rows int) {
	e.pool.Run(len(spans)*e.Heads, func(task int) {
		text, h := spans[task/e.Heads], task%e.Heads
		e.attendHead(heads[h].query.bias, text, h, rows)
	})
}

// attendHead is one head over one text.
func (e *encoder) attendHead(bias []float32, t span, h, rows int) {
	dim, s := e.headDimension, &e.scratch
	at, size := (h*rows+t.start)*dim, t.n*dim
	queries, keys, values, gathered := s.queries[at:][:size], s.keys[at:][:size], s.values[at:][:size], s.gathered[at:][:size]
	for i := range t.n {
		cpu.Axpy(queries[i*dim:][:dim], 1, bias)
	}
	worker, ok := s.workers.Get().(*cpu.Scratch)
	if !ok {
		worker = new(cpu.Scratch)
	}
	defer s.workers.Put(worker)
	sums, visible := s.sums[h*rows+t.start:][:t.n], s.visible[t.start:][:t.n]
	scale := float32(1 / math.Sqrt(float64(dim)))
	if !e.rounds {
		cpu.AttendFloat32(e.isa, gathered, sums, queries, keys, values, 1, dim, visible, scale, worker)
		return
	}
	k, v := s.rounded[at:][:size], s.rounded[len(s.rounded)/2+at:][:size]
	cpu.BF16(k, keys)
	cpu.BF16(v, values)
	cpu.Attend(e.isa, gathered, sums, queries, k, v, 1, dim, visible, scale, worker)
}

// gather makes row i of context what the heads have gathered for it.
func (e *encoder) gather(i, rows int) {
	dim, s := e.headDimension, &e.scratch
	for h := range e.Heads {
		copy(s.context[i*e.Hidden+h*dim:][:dim], s.gathered[(h*rows+i)*dim:])
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
