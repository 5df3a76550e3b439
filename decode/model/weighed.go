package model

import (
	"sync/atomic"

	"lessrag/decode/cache"
)

// weighedHead is one KV head of a block whose policy adds up what slots get of all queries
// and query heads. The tiles of attention do that while they have the weights, each for
// itself; the last one joins what all have found, in the order of the tiles.
type weighedHead struct {
	block, kvHead int
	held, own     int // slots: the block's own are apart where it does not fit
	sums          int // where those of its tiles begin, each [held+own]
	tiles         int
	left          int32 // of them, those that are not there yet
}

// mostWeights is the most weights of a tile: no more than a core's own cache holds.
const mostWeights = 1 << 18

// weighs tells whether a KV head's attention is observed so. The choice is the block's
// alone, and does not depend on what else is in the batch.
func (c *CPU) weighs(block *block, layer, kvHead int) bool {
	s := block.sequence
	return block.observed == 0 && block.reduce == cache.Sum && block.n > fewQueries && len(s.Packed(layer, kvHead).Groups) == 0 &&
		(s.Len(layer, kvHead)+block.n)*c.config.Group()*tileQueries <= mostWeights
}

// weigh lists a KV head whose spans begin with first, and returns its place: -1 where its
// tiles add up nothing.
func (b *batch) weigh(i, kvHead, first int) int {
	block := &b.blocks[i]
	if !block.weighs {
		return -1
	}
	h := weighedHead{block: i, kvHead: kvHead, tiles: (block.n + tileQueries - 1) / tileQueries}
	if n := len(b.weighed); n > 0 {
		h.sums = b.weighed[n-1].end()
	}
	for _, s := range b.spans[first:] {
		h.held += s.slots
	}
	if !block.fits {
		h.held, h.own = h.held-block.n, block.n
	}
	h.left = int32(h.tiles)
	b.weighed = append(b.weighed, h)
	return len(b.weighed) - 1
}

// end is where the sums of the next head begin.
func (h *weighedHead) end() int { return h.sums + h.tiles*(h.held+h.own) }

// keepSums makes room for what the tiles of a wave add up.
func (c *CPU) keepSums(b *batch) {
	if n := len(b.weighed); n > 0 {
		c.tileSums = resize(c.tileSums, b.weighed[n-1].end())
	}
}

// sumTile adds up what slots got of a tile, whose log-sum-exps are lse [n, group].
func (c *CPU) sumTile(b *batch, layer int, t *attendTask, lse []float32, w *attendWorker) {
	h := &b.weighed[t.weighed]
	sums := rowOf(c.tileSums[h.sums:h.end()], t.from/tileQueries, h.held+h.own)
	clear(sums)
	w.weights.Columns(sums, lse, &w.kernel)
	if atomic.AddInt32(&h.left, -1) == 0 {
		c.joinTiles(b, layer, h, w)
	}
}

// joinTiles gives the policy what all tiles have added up: in place of the first of the
// query heads, that of all.
func (c *CPU) joinTiles(b *batch, layer int, h *weighedHead, w *attendWorker) {
	block, group, slots := &b.blocks[h.block], c.config.Group(), h.held+h.own
	all := c.tileSums[h.sums:h.end()]
	for tile := 1; tile < h.tiles; tile++ {
		add(all[:slots], rowOf(all, tile, slots))
	}
	w.columns = resize(w.columns, group*h.held)
	clear(w.columns[copy(w.columns, all[:h.held]):])
	block.sequence.Observe(layer, h.kvHead, 0, w.columns)
	if h.own > 0 {
		own := c.ownColumns(block)[h.kvHead*group*block.n:][:group*block.n]
		clear(own[copy(own, all[h.held:slots]):])
	}
}
