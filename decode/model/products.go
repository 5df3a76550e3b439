package model

import "lessrag/lesskernels/cpu"

// norm makes the normalised residual stream what the next product is with.
func (c *CPU) norm(b *batch, weight []float32) {
	width := c.config.Width
	c.input.SetMade(c.normed, c.x, b.rows, width, func(dst, x []float32) {
		cpu.RMSNorm(dst, x, weight, c.config.Epsilon)
	})
}

// qkv computes queries, keys and values, and places them.
func (c *CPU) qkv(b *batch, l *layer) {
	products, dim := c.heads(l), c.config.HeadDim
	for i, place := range []func(b *batch, from, to int){c.placeQueries, c.placeKeys, c.placeValues} {
		products[i].Finish = func(from, to int) { place(b, from/dim, to/dim) }
	}
	cpu.MulAll(c.pool, &c.input, products...)
	c.Clock.Mark(Matmul)
}

// heads are the products that give queries, keys and values.
func (c *CPU) heads(l *layer) []cpu.Product {
	dim := c.config.HeadDim
	return []cpu.Product{{Matrix: l.q, Dst: c.q, Together: dim},
		{Matrix: l.k, Dst: c.k, Together: dim, Pairs: true}, {Matrix: l.v, Dst: c.v, Together: dim, Pairs: true}}
}

// rope places what heads has given.
func (c *CPU) rope(b *batch) {
	c.placeQueries(b, 0, c.config.Heads)
	c.placeKeys(b, 0, c.config.KVHeads)
	c.placeValues(b, 0, c.config.KVHeads)
}

// placeQueries turns the queries of some heads by their positions.
func (c *CPU) placeQueries(b *batch, from, to int) {
	for row := range b.rows {
		c.remember(b, row, from, to)
		c.turnHeads(c.q, row, c.config.Heads, from, to)
	}
}

// placeKeys turns the keys of some KV heads and rounds them to bf16, [kvHeads, n,
// stored] for each Work.
func (c *CPU) placeKeys(b *batch, from, to int) {
	for row := range b.rows {
		c.turnHeads(c.k, row, c.config.KVHeads, from, to)
		c.roundHeads(b, c.blockK, c.k, row, from, to)
	}
}

// placeValues rounds the values of some KV heads likewise.
func (c *CPU) placeValues(b *batch, from, to int) {
	for row := range b.rows {
		c.roundHeads(b, c.blockV, c.v, row, from, to)
	}
}

// turnHeads turns heads [from, to) of a row of x [rows, heads, headDim] by its position.
func (c *CPU) turnHeads(x []float32, row, heads, from, to int) {
	dim := c.config.HeadDim
	cpu.RopeInterleaved(x[(row*heads+from)*dim:], to-from, dim, rowOf(c.cos, row, dim/2), rowOf(c.sin, row, dim/2))
}

// roundHeads rounds a row's keys or values of some KV heads.
func (c *CPU) roundHeads(b *batch, dst []uint16, x []float32, row, from, to int) {
	kvHeads, dim := c.config.KVHeads, c.config.HeadDim
	block := &b.blocks[b.owner[row]]
	for kvHead := from; kvHead < to; kvHead++ {
		at := block.first*kvHeads + kvHead*block.n + row - block.first
		c.round(rowOf(dst, at, c.stored), rowOf(x, row*kvHeads+kvHead, dim))
	}
}

// round stores a key or a value. It destroys x where it stores two parts.
func (c *CPU) round(dst []uint16, x []float32) {
	if c.stored > len(x) {
		splitBF16(dst, x, x)
		return
	}
	cpu.BF16(dst, x)
}

func (c *CPU) project(b *batch, l *layer) {
	c.input.Set(c.attention, b.rows, c.config.Heads*c.config.HeadDim)
	cpu.MulAll(c.pool, &c.input, cpu.Product{Matrix: l.o, Dst: c.x, Add: true})
	c.Clock.Mark(Matmul)
}

func (c *CPU) feedForward(b *batch, l *layer) {
	hidden := c.config.Hidden
	c.hidden.SetColumns(c.gate, b.rows, hidden, func(row, from, to int) {
		gate := rowOf(c.gate, row, hidden)[from:to]
		cpu.SwiGLU(gate, gate, rowOf(c.up, row, hidden)[from:to])
	})
	cpu.MulChain(c.pool, &c.input, &c.hidden, l.down, cpu.Product{Matrix: l.gate, Dst: c.gate}, cpu.Product{Matrix: l.up, Dst: c.up})
	cpu.MulAll(c.pool, &c.hidden, cpu.Product{Matrix: l.down, Dst: c.x, Add: true})
	c.Clock.Mark(Matmul)
}
