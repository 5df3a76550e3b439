package model

import (
	"math"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cpu"
)

// observeTask is the attention that the slots of one span get from a block's rows.
type observeTask struct {
	block  int
	kvHead int
	span   int
	slots  [2]int // of the span
	from   int    // the first one's place among those that hold the KV head's or the block's tokens
	whose  slotOwner
}

// slotOwner tells where the slots of a span lie.
type slotOwner int

const (
	heldSlots   slotOwner = iota // in 16 bits
	packedSlots                  // packed
	ownSlots                     // among the block's, which are not stored yet
)

// watch lists the spans from first on, which begin at slot 0 of those that their owner
// has, where the block's policy wants to see attention.
func (b *batch) watch(i, kvHead, first int, whose slotOwner) {
	if block := &b.blocks[i]; block.observed == block.n || block.weighs {
		return
	}
	from := 0
	for s := first; s < len(b.spans); s++ {
		slots, parts := b.spans[s].slots, 1
		if whose != packedSlots && b.blocks[i].n > 1 {
			parts = (slots + watchedSlots - 1) / watchedSlots
		}
		for part := range parts {
			some := [2]int{part * slots / parts, (part + 1) * slots / parts}
			b.watched = append(b.watched, observeTask{block: i, kvHead: kvHead, span: s, slots: some, from: from + some[0], whose: whose})
		}
		from += slots
	}
}

// watchedSlots is the most slots of one task of a block's rows: with more, threads would
// not end together.
const watchedSlots = 256

// watchedRows is how many rows are joined at a time: a tile of keys is made ready once for
// all of them.
const watchedRows = 128

// part is slots [from, to) of a span whose keys are of so many numbers.
func (s *span) part(from, to, stored int) *span {
	if from == 0 && to == s.slots {
		return s
	}
	return &span{k: s.k[from*stored : to*stored], slots: to - from, visible: s.visible - from, rows: s.rows}
}

// keepWeights lets attention leave its softmax weights behind where a block of one
// row is watched: a token of an answer costs no second look at the keys.
func (c *CPU) keepWeights(b *batch) {
	group, n := c.config.Group(), 0
	for i := range b.watched {
		if t := &b.watched[i]; b.blocks[t.block].n == 1 {
			n += group * (b.spans[t.span].slots + 1)
		}
	}
	c.rowWeights = resize(c.rowWeights, n)
	rest := c.rowWeights
	for i := range b.watched {
		t := &b.watched[i]
		if span := &b.spans[t.span]; b.blocks[t.block].n == 1 {
			span.weights, rest = rest[:group*span.slots], rest[group*span.slots:]
			span.peak, rest = rest[:group], rest[group:]
		}
	}
}

// observe gives the policies of a layer the attention that they ask for: softmax
// weights over what was held exactly and the block.
func (c *CPU) observe(b *batch, layer int) {
	c.run(len(b.watched), func(i int, w *attendWorker) { c.observeSpan(b, layer, &b.watched[i], w) })
}

// observeSpan joins what the span's slots got: w.columns [group, slots].
func (c *CPU) observeSpan(b *batch, layer int, t *observeTask, w *attendWorker) {
	group := c.config.Group()
	block, span := &b.blocks[t.block], b.spans[t.span].part(t.slots[0], t.slots[1], c.stored)
	w.columns = resize(w.columns, group*span.slots)
	clear(w.columns)
	switch {
	case span.weights != nil:
		c.observeRow(b, t, span, w)
	case block.reduce == cache.Last:
		c.observeLast(b, t, span, w)
	default:
		c.observeRows(b, t, span, w)
	}
	switch t.whose {
	case heldSlots:
		block.sequence.Observe(layer, t.kvHead, t.from, w.columns)
		return
	case packedSlots:
		block.sequence.ObservePacked(layer, t.kvHead, t.from, w.columns)
		return
	}
	own := c.ownColumns(block)[t.kvHead*group*block.n:]
	for g := range group {
		copy(own[g*block.n+t.from:], rowOf(w.columns, g, span.slots))
	}
}

// observeRow takes the weights that attention left behind for a block's one row.
func (c *CPU) observeRow(b *batch, t *observeTask, span *span, w *attendWorker) {
	block := &b.blocks[t.block]
	group, position := c.config.Group(), b.positions[block.first]
	lse := rowOf(c.lse, block.first*c.config.KVHeads+t.kvHead, group)
	for g := range group {
		share := float64(span.peak[g]) - float64(lse[g])
		columns, weights := rowOf(w.columns, g, span.slots), rowOf(span.weights, g, span.slots)
		switch block.reduce {
		case cache.Last:
			markImportant(columns, weights, position, math.Exp(-share))
			continue
		case cache.Decayed:
			share += cache.Rise(position)
		}
		cpu.Axpy(columns, float32(math.Exp(share)), weights)
	}
}

// observeRows adds up the rows tile by tile, or takes the most of them.
func (c *CPU) observeRows(b *batch, t *observeTask, span *span, w *attendWorker) {
	block := &b.blocks[t.block]
	reduce := cpu.Sum
	if block.reduce == cache.Max {
		reduce = cpu.Max
	}
	for from := block.observed; from < block.n; from += watchedRows {
		n := min(watchedRows, block.n-from)
		for i := range n {
			w.visible[i] = span.sees(from + i)
		}
		c.columns(c.attentionISA(block), w.columns, w, b, t, span, from, n, reduce)
	}
}

// observeLast goes row by row: it matters which of them found a slot important.
func (c *CPU) observeLast(b *batch, t *observeTask, span *span, w *attendWorker) {
	group := c.config.Group()
	block := &b.blocks[t.block]
	w.one = resize(w.one, max(len(w.one), group*span.slots))
	row := w.one[:group*span.slots]
	for i := block.observed; i < block.n; i++ {
		if w.visible[0] = span.sees(i); w.visible[0] == 0 {
			continue
		}
		clear(row)
		c.columns(min(c.attentionISA(block), cpu.AVX512), row, w, b, t, span, i, 1, cpu.Sum) // pairs of bf16 would pad one row to a block
		markImportant(w.columns, row, b.positions[block.first+i], 1)
	}
}

// columns joins dst [group, slots] with what a span's slots get from n rows of a block, whose
// visible slots are in w.
func (c *CPU) columns(isa cpu.ISA, dst []float32, w *attendWorker, b *batch, t *observeTask, span *span, from, n int, reduce cpu.Reduce) {
	group, dim, kvHeads := c.config.Group(), c.stored, c.config.KVHeads
	block := &b.blocks[t.block]
	first, lse := block.first+from, w.lse[:n*group]
	for i := range n {
		row := rowOf(lse, i, group)
		copy(row, rowOf(c.lse, (first+i)*kvHeads+t.kvHead, group))
		if block.reduce == cache.Decayed {
			for g := range row {
				row[g] = float32(float64(row[g]) - cache.Rise(b.positions[first+i]))
			}
		}
	}
	if span.packed.Groups == nil && dim == c.config.HeadDim { // as they lie
		q := c.q[(first*kvHeads+t.kvHead)*group*dim:]
		cpu.Columns(isa, dst, q, lse, span.k, group, kvHeads*group, dim, w.visible[:n], c.scale, reduce, &w.kernel)
		return
	}
	q := w.q[:n*group*dim]
	for i := range n {
		c.gather(rowOf(q, i, group*dim), first+i, t.kvHead)
	}
	if span.packed.Groups != nil {
		cpu.ColumnsPacked(min(isa, cpu.AVX512), dst, q, lse, span.packed, group, dim, c.scale, reduce, &w.kernel)
		return
	}
	cpu.Columns(isa, dst, q, lse, span.k, group, group, dim, w.visible[:n], c.scale, reduce, &w.kernel)
}

// markImportant writes to last [slots] the step of the query at a position where
// its weights, of which the whole is so much, make a slot important: see cache.Last.
func markImportant(last, weights []float32, position int, whole float64) {
	step, least := math.Float32bits(float32(position+1)), math.Float32bits(float32(whole/float64(position+1)))
	last = last[:len(weights)]
	for i, p := range weights {
		now := math.Float32bits(last[i])
		if math.Float32bits(p) >= least { // as of numbers that are not negative; no branch, which nobody could predict
			now = step
		}
		last[i] = math.Float32frombits(now)
	}
}

// ownColumns [kvHeads, group, n] is where the attention over a block's own tokens
// waits until they are stored.
func (c *CPU) ownColumns(block *block) []float32 {
	heads := c.config.Heads
	return c.blockColumns[block.first*heads : (block.first+block.n)*heads]
}

// resize is x with n values of any content.
func resize[T float32 | uint16](x []T, n int) []T {
	if cap(x) < n {
		return make([]T, n, n+n/2)
	}
	return x[:n]
}
