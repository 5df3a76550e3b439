package model

import "lessrag/lesskernels/cpu"

// partials are results of attention over some spans of a KV head's slots, kept
// until those of all spans are there.
type partials struct {
	out   []float32 // partial results one after the other, each [n·group, stored]
	lse   []float32 // each [n·group]
	first []int     // of each partial, its first row
	heads []partialHead
	rows  int
}

// partialHead is one KV head of one block whose spans were attended apart.
type partialHead struct {
	block, kvHead int
	first, spans  int   // its partials
	left          int32 // of them, those that are not there yet
}

func (p *partials) reset() {
	p.first, p.heads, p.rows = p.first[:0], p.heads[:0], 0
}

// add makes room for the spans of n queries and returns the first one's index.
func (p *partials) add(block, kvHead, n, spans, group, dim int) int {
	first := len(p.first)
	for range spans {
		p.first = append(p.first, p.rows)
		p.rows += n * group
	}
	p.heads = append(p.heads, partialHead{block: block, kvHead: kvHead, first: first, spans: spans, left: int32(spans)})
	for len(p.lse) < p.rows {
		p.lse = append(p.lse, 0)
		p.out = append(p.out, make([]float32, dim)...)
	}
	return first
}

// at is partial i: out [rows, dim] and lse [rows].
func (p *partials) at(i, rows, dim int) (out, lse []float32) {
	from := p.first[i]
	return p.out[from*dim : (from+rows)*dim], p.lse[from : from+rows]
}

// join merges a head's partials in the order of their spans, which are of few queries.
func (p *partials) join(c *CPU, b *batch, layer int, h *partialHead, w *attendWorker) {
	n := b.blocks[h.block].n
	group, dim := c.config.Group(), c.stored
	out, lse := p.at(h.first, n*group, dim)
	for s := 1; s < h.spans; s++ {
		other, otherLSE := p.at(h.first+s, n*group, dim)
		cpu.Merge(c.isa, out, lse, other, otherLSE, dim)
	}
	c.settle(b, layer, h.block, h.kvHead, 0, n, out, lse, w)
}
