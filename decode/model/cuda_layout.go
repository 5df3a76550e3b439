package model

import (
	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
)

// layOut decides where a block's tokens go and what they see, and notes it for the
// kernels.
func (c *CUDA) layOut(b *cudaBatch, i int) {
	block, work := &b.blocks[i], b.works[i]
	s, n := block.sequence, block.n
	if block.wave == len(b.waves) {
		b.waves = append(b.waves, wave{})
	}
	w := &b.waves[block.wave]
	scratch := c.scratchPlace(b).After(block.first)

	switch {
	case s.each:
		c.makeRoomEach(w, block)
	case !s.watched():
		w.evictions.add(s, 0, cuda.Place{}, c.makeRoom(block))
	case block.wave > 0:
		c.foresee(block)
		block.waits = block.evicts || !b.blocks[i-1].booked
	case block.evicts: // as it was decided
		for layer := range c.config.Layers {
			w.cutsOf(c, layer).evictions.add(s, layer, cuda.Place{}, s.books.of(layer))
		}
	}
	block.booked = s.watched() && block.fits && !block.waits
	c.noteQueries(w, block)
	c.see(b, block)
	c.seePacked(b, block)
	c.tilePacked(w, block)
	c.watch(w, block, work.Question, scratch)
	if block.fits {
		for row := range n {
			w.stores.add(cuda.Store{Row: int64(block.first + row), To: s.place})
		}
	}
	switch {
	case s.each:
		c.keepEach(w, block, scratch)
	case !s.late:
		c.keep(w, block, scratch)
	case !block.fits:
		s.gave, s.known = true, 0
	}
	switch {
	case block.booked:
		c.book(block)
	case s.watched():
		w.late = append(w.late, i)
	}

	to, size := &w.blocks, c.heads.TileQueries()
	if n == 1 && !work.Prompt {
		to, size = &w.steps, 1
	}
	for at := 0; at < n; at += size {
		to.rows.add(cuda.Tile{First: int32(block.first + at), Rows: int32(min(size, n-at))})
		to.held.add(s.place)
		to.own.add(scratch)
	}
	for row, token := range work.Tokens {
		b.tokens.add(token)
		w.rows.add(int32(block.first + row))
		if work.Targets != nil {
			b.pick.add(int32(block.first + row))
		}
	}
	s.position += n
}

// makeRoom cuts the block's sequence down to its budget where the block has no room, or tells that attention has to decide
// what is cut.
func (c *CUDA) makeRoom(block *cudaBlock) (cuts []cut) {
	s := block.sequence
	before := s.pace.Len(0, 0)
	if s.watched() {
		s.pace.MakeRoom(0, block.n)
	} else {
		cuts = s.books.makeRoom(0, block.n)
	}
	if s.pace.Len(0, 0) < before {
		block.evicts, block.learns, s.gave, s.known = true, s.known > 0, true, 0
	}
	block.fits = s.pace.Fits(0, block.n)
	return cuts
}

// see notes what the rows of a block see, and which state they ask.
func (c *CUDA) see(b *cudaBatch, block *cudaBlock) {
	s, kvHeads := block.sequence, c.heads.KVHeads
	fits := 0
	if block.fits {
		fits = 1
	}
	for at := range len(b.live.values) / b.stride * kvHeads {
		layer, head := at/kvHeads, at%kvHeads
		held := s.holds(layer, head)
		for row := range block.n {
			b.live.values[layer*b.stride+(block.first+row)*kvHeads+head] = int32(held + fits*(row+1))
		}
		block.saw = max(block.saw, held+fits*block.n)
	}
	if s.late && block.waits {
		block.saw = s.room // at most
	}
	b.splits = max(b.splits, (block.saw+c.span-1)/c.span)
	for row := range block.n {
		for range kvHeads {
			b.ownLive.add(int32((1 - fits) * (row + 1)))
		}
		asked, recalled := int64(-1), int64(-1)
		switch {
		case !s.asks(s.position + row):
		case s.plan.Spec.State == cache.Moment:
			recalled, b.recalls = s.table, true
		default:
			asked, b.asks = s.table, true
		}
		b.asked.add(asked)
		b.recalled.add(recalled)
		b.at.add(int32(s.position + row))
	}
	b.own = b.own || !block.fits
}

// keep notes that a block is stored, or what stays of it after it was attended.
func (c *CUDA) keep(w *wave, block *cudaBlock, scratch cuda.Place) {
	s, n := block.sequence, block.n
	switch numbers := make([]uint16, n); {
	case block.fits && s.watched():
		s.pace.Append(0, 0, numbers, numbers)
	case block.fits:
		s.books.append(0, n)
	case s.watched():
		s.pace.Insert(0, numbers, numbers, nil)
	default:
		w.inserts.add(s, 0, scratch, s.books.insert(0, n, nil))
	}
	s.pace.Advance(n)
	if !block.fits {
		s.known = 0
		s.gave = s.gave || s.pace.Len(0, 0) < s.position+n
	}
}
