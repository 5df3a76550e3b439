package train

import (
	"math"
	"slices"

	"lessrag/lesskernels/cpu"
)

// Attention is one layer's over a whole sequence, keys and queries turned by
// their positions.
type Attention struct {
	Shape
	Tokens int
	Scale  float32
	Q      []float32 // [tokens, heads, headDim]
	K, V   []float32 // [kvHeads, tokens, headDim]
}

// Trace is what a policy did to a sequence.
type Trace struct {
	Order [][]int32 // [kvHeads] tokens in the order in which they left
	When  [][]int32 // [kvHeads] the position before whose attention each of Order left
	Rows  []int     // positions whose attention is kept
	Out   []float32 // [rows, heads, headDim] attention over what the policy keeps
	LSE   []float32 // [heads, rows] its natural log-sum-exp
}

// Walk runs a policy over a sequence token by token: it evicts, then lets the
// token at that position attend to what is kept and to itself. The attention of
// the rows, rising positions, is kept.
func Walk(pool *cpu.Pool, a *Attention, p Policy, rows []int) *Trace {
	t := &Trace{Order: make([][]int32, a.KVHeads), When: make([][]int32, a.KVHeads), Rows: rows,
		Out: make([]float32, len(rows)*a.Width()), LSE: make([]float32, len(rows)*a.Heads)}
	sets := [][]int{} // KV heads that share a set of tokens
	for kvHead := range a.KVHeads {
		if p.Name == TOVA && kvHead > 0 {
			sets[0] = append(sets[0], kvHead)
		} else {
			sets = append(sets, []int{kvHead})
		}
	}
	pool.Run(len(sets), func(i int) { newWalker(a, p, t, sets[i]).walk() })
	return t
}

// walker follows one set of tokens.
type walker struct {
	*Attention
	policy  Policy
	trace   *Trace
	kvHeads []int

	kept   []int32     // tokens, in no order
	score  []float32   // [slots] what the policy goes by
	slots  int         // room, a multiple of 16
	keys   [][]float32 // of each KV head: [headDim, slots]
	values [][]float32 // of each KV head: [slots, headDim]
	p      []float32   // [group, slots] softmax weights
	next   int         // of Rows
}

func newWalker(a *Attention, p Policy, t *Trace, kvHeads []int) *walker {
	w := &walker{Attention: a, policy: p, trace: t, kvHeads: kvHeads, slots: (p.Budget + 2 + 15) &^ 15}
	w.score = make([]float32, w.slots)
	w.p = make([]float32, a.Group()*w.slots)
	for range kvHeads {
		w.keys = append(w.keys, make([]float32, a.HeadDim*w.slots))
		w.values = append(w.values, make([]float32, w.slots*a.HeadDim))
	}
	return w
}

func (w *walker) walk() {
	for position := range w.Tokens {
		if len(w.kept) > w.policy.Budget {
			w.evict(w.lowest(position), position)
		}
		w.take(position)
		row := w.next < len(w.trace.Rows) && w.trace.Rows[w.next] == position
		if w.policy.Name == Sinks && !row {
			continue // nothing depends on attention
		}
		if w.policy.Name == TOVA {
			clear(w.score)
		}
		for i, kvHead := range w.kvHeads {
			w.attend(i, kvHead, position, row)
		}
		if row {
			w.next++
		}
	}
}

// lowest is the slot of the token to evict: the first of the lowest score among
// those that are not protected.
func (w *walker) lowest(position int) int {
	lowest, recent := -1, int32(position-w.policy.recent())
	for slot, token := range w.kept {
		if token >= recent || w.policy.Name == Sinks && token < sinkTokens {
			continue
		}
		if w.policy.Name == Sinks {
			return slot
		}
		if lowest < 0 || w.score[slot] < w.score[lowest] || w.score[slot] == w.score[lowest] && token < w.kept[lowest] {
			lowest = slot
		}
	}
	return lowest
}

// evict moves the last slot to the place of one.
func (w *walker) evict(slot, position int) {
	last := len(w.kept) - 1
	for i, kvHead := range w.kvHeads {
		w.trace.Order[kvHead] = append(w.trace.Order[kvHead], w.kept[slot])
		w.trace.When[kvHead] = append(w.trace.When[kvHead], int32(position))
		for c := range w.HeadDim {
			w.keys[i][c*w.slots+slot] = w.keys[i][c*w.slots+last]
		}
		copy(w.values[i][slot*w.HeadDim:(slot+1)*w.HeadDim], w.values[i][last*w.HeadDim:])
	}
	w.kept[slot], w.score[slot] = w.kept[last], w.score[last]
	w.kept = w.kept[:last]
}

// take stores the token at a position.
func (w *walker) take(position int) {
	slot := len(w.kept)
	w.kept = append(w.kept, int32(position))
	w.score[slot] = 0
	for i, kvHead := range w.kvHeads {
		at := (kvHead*w.Tokens + position) * w.HeadDim
		for c, x := range w.K[at : at+w.HeadDim] {
			w.keys[i][c*w.slots+slot] = x
		}
		copy(w.values[i][slot*w.HeadDim:], w.V[at:at+w.HeadDim])
	}
}

// attend adds the softmax weights of one KV head's queries to the scores, and
// keeps the attention of a row.
func (w *walker) attend(i, kvHead, position int, row bool) {
	group, dim, n := w.Group(), w.HeadDim, len(w.kept)
	q := w.Q[(position*w.Heads+kvHead*group)*dim:][:group*dim]
	columns := (n + 15) &^ 15
	clear(w.p)
	cpu.AddProduct(cpu.Rows(w.p, w.slots), cpu.Rows(q, dim), cpu.Rows(w.keys[i], w.slots), group, columns, dim)
	for g := range group {
		p := w.p[g*w.slots:][:n]
		highest := 0
		for slot := range p {
			p[slot] *= w.Scale
			if p[slot] > p[highest] {
				highest = slot
			}
		}
		peak := p[highest]
		cpu.Softmax(p)
		for slot, x := range p {
			w.score[slot] += x
		}
		if row {
			head := kvHead*group + g
			w.trace.LSE[head*len(w.trace.Rows)+w.next] = peak - float32(math.Log(float64(p[highest])))
		}
	}
	if row {
		out := cpu.Rows(w.trace.Out[w.next*w.Width()+kvHead*group*dim:], dim)
		cpu.AddProduct(out, cpu.Rows(w.p, w.slots), cpu.Rows(w.values[i], dim), group, dim, n)
	}
}

// Sample joins a trace with what φ, ψ and the loss need. preQ [tokens, heads,
// headDim] and preK [tokens, kvHeads, headDim] are the inputs of φ and ψ, exact
// [tokens, heads, headDim] is the attention over all tokens, or nil.
func (t *Trace) Sample(a *Attention, preQ, preK, exact []float32) *Sample {
	rows, dim := len(t.Rows), a.HeadDim
	s := &Sample{Rows: rows, Sparse: t.Out, LSE: t.LSE, Q: make([]float32, 0, rows*a.Width())}
	for _, row := range t.Rows {
		s.At = append(s.At, int32(row))
	}
	for head := range a.Heads {
		for _, row := range t.Rows {
			at := (row*a.Heads + head) * dim
			s.Q = append(s.Q, preQ[at:at+dim]...)
		}
	}
	if exact != nil {
		for _, row := range t.Rows {
			s.Exact = append(s.Exact, exact[row*a.Width():(row+1)*a.Width()]...)
		}
	}
	for kvHead := range a.KVHeads {
		var e Evicted
		for _, row := range t.Rows {
			n, _ := slices.BinarySearch(t.When[kvHead], int32(row+1))
			e.Before = append(e.Before, int32(n))
		}
		e.At = slices.Clone(t.Order[kvHead][:e.Before[rows-1]])
		for _, token := range e.At {
			at := (int(token)*a.KVHeads + kvHead) * dim
			e.K = append(e.K, preK[at:at+dim]...)
			at = (kvHead*a.Tokens + int(token)) * dim
			e.V = append(e.V, a.V[at:at+dim]...)
		}
		s.Evicted = append(s.Evicted, e)
	}
	return s
}
