package model

import (
	"lessrag/decode/cache"
	"lessrag/lesskernels/cpu"
)

// observeTask is the attention that the slots of one span get from a block's rows.
type observeTask struct {
	block  int
	kvHead int
	span   int
	from   int  // the span's first slot among those that hold the KV head's or the block's tokens
	own    bool // they are the block's, which are not stored yet
}

// watch lists the spans from first on, which begin at slot 0 of a KV head, or with
// own at a block's first token, where the block's policy wants to see attention.
func (b *batch) watch(i, kvHead, first int, own bool) {
	if block := &b.blocks[i]; block.observed == block.n {
		return
	}
	from := 0
	for s := first; s < len(b.spans); s++ {
		b.watched = append(b.watched, observeTask{block: i, kvHead: kvHead, span: s, from: from, own: own})
		from += b.spans[s].slots
	}
}

// observe gives the policies of a layer the attention that they ask for: softmax
// weights over what was held exactly and the block.
func (c *CPU) observe(b *batch, layer int) {
	c.run(len(b.watched), func(i int, w *attendWorker) { c.observeSpan(b, layer, &b.watched[i], w) })
}

// observeSpan takes the rows tile by tile.
func (c *CPU) observeSpan(b *batch, layer int, t *observeTask, w *attendWorker) {
	group, dim := c.config.Group(), c.stored
	block, span := &b.blocks[t.block], &b.spans[t.span]
	w.columns = resize(w.columns, group*span.slots)
	clear(w.columns)
	reduce := cpu.Sum
	if block.reduce == cache.Max {
		reduce = cpu.Max
	}
	for from := block.observed; from < block.n; from += tileQueries {
		n := min(tileQueries, block.n-from)
		for i := range n {
			row := block.first + from + i
			c.gather(w.q[i*group*dim:], row, t.kvHead)
			copy(w.lse[i*group:], rowOf(c.lse, row*c.config.KVHeads+t.kvHead, group))
			w.visible[i] = span.sees(from + i)
		}
		cpu.Columns(c.isa, w.columns, w.q[:n*group*dim], w.lse[:n*group], span.k, group, dim, w.visible[:n], c.scale, reduce, &w.kernel)
	}
	if !t.own {
		block.sequence.Observe(layer, t.kvHead, t.from, w.columns)
		return
	}
	own := c.ownColumns(block)[t.kvHead*group*block.n:]
	for g := range group {
		copy(own[g*block.n+t.from:], rowOf(w.columns, g, span.slots))
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
