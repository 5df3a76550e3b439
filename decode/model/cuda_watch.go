package model

import (
	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// oneTile is how many rows times heads of a group are observed as a step of an answer.
const oneTile = 16

// watches are blocks whose attention is observed, over what their sequences hold and over
// the blocks themselves where these did not fit.
type watches struct {
	held, own           table[cuda.Watch]
	heldPlace, ownPlace table[cuda.Place]
	most, mostOwn       int // slots that one of them sees
}

func (w *watches) add(held bool, watch cuda.Watch, place cuda.Place, sees int) {
	if sees == 0 {
		return
	}
	if held {
		w.held.add(watch)
		w.heldPlace.add(place)
		w.most = max(w.most, sees)
		return
	}
	w.own.add(watch)
	w.ownPlace.add(place)
	w.mostOwn = max(w.mostOwn, sees)
}

func (w *watches) stage(u *upload) {
	u.put(cuda.Bytes(w.held.values), &w.held.at)
	u.put(cuda.Bytes(w.own.values), &w.own.at)
	u.put(cuda.Bytes(w.heldPlace.values), &w.heldPlace.at)
	u.put(cuda.Bytes(w.ownPlace.values), &w.ownPlace.at)
}

// watch notes that a block's attention is observed, over the held first slots of its sequence and
// over so many of its own rows.
func (c *CUDA) watch(b *cudaBatch, w *wave, i, held, own int, scratch cuda.Place) {
	block := &b.blocks[i]
	s := block.sequence
	rows, to := cuda.Watch{First: int64(block.first), Rows: int64(block.n)}, &w.watchBlocks
	if newest := cache.NewPolicy(s.plan.Spec).Observes().Rows == cache.NewestRow; newest {
		rows.First, rows.Rows = rows.First+rows.Rows-1, 1
		s.known = 0
	}
	if int(rows.Rows)*c.heads.Group() <= oneTile {
		to = &w.watchSteps
	}
	over := rows
	over.Sums, over.SumsLayer, over.SumsHead, over.Known = s.sums, s.place.Layer, s.place.Head, int64(s.known)
	most := held
	if to == &w.watchSteps && held > 0 {
		most = s.room // the same in every step
	}
	to.add(true, over, s.place, most)
	over = rows
	over.Sums, over.SumsHead = int64(c.blockSums/4)+int64(block.first), int64(c.limits.Tokens)
	to.add(false, over, scratch, own)
	s.known = held
}

// decide lets the policies of a wave's sequences make room in a layer, by what was observed since the last time.
func (c *CUDA) decide(b *cudaBatch, layer int, w *wave) {
	late := cutTables{}
	for _, i := range w.watched {
		block := &b.blocks[i]
		s := block.sequence
		s.books.Advance(block.ahead)
		if block.evicts {
			c.learn(s, layer)
			late.add(s, layer, cuda.Place{}, s.books.makeRoom(layer, block.n))
		}
		if block.fits {
			s.books.append(layer, block.n)
		}
		s.books.Advance(-block.ahead)
	}
	c.cutLate(layer, &late)
}

// decideInserts does so for blocks that did not fit, after they were attended.
func (c *CUDA) decideInserts(b *cudaBatch, layer int, w *wave) {
	late := cutTables{}
	for _, i := range w.watched {
		block := &b.blocks[i]
		s := block.sequence
		if block.fits {
			continue
		}
		s.books.Advance(block.ahead)
		if block.saw > 0 {
			c.learn(s, layer)
		}
		late.add(s, layer, c.scratchPlace(b).After(block.first), s.books.insert(layer, block.n, c.ownSums(block)))
		s.books.Advance(-block.ahead)
	}
	c.cutLate(layer, &late)
}

func (c *CUDA) cutLate(layer int, late *cutTables) {
	if len(late.moves.values)+len(late.jobs.values) == 0 {
		return
	}
	late.stage(&c.late)
	c.send(&c.late)
	c.cut(layer, late)
}

// learn reads what the slots of a layer got of attention.
func (c *CUDA) learn(s *cudaSequence, layer int) {
	n := c.heads.KVHeads * s.room
	c.sums = resize(c.sums, n)
	c.download(cuda.Bytes(c.sums), device.Pointer(4*(s.sums+int64(layer*n))))
	s.books.observe(layer, s.room, c.sums)
}

// ownSums [kvHeads, n] is what a block's rows got of its own attention.
func (c *CUDA) ownSums(block *cudaBlock) []float32 {
	n := block.n
	sums := make([]float32, c.heads.KVHeads*n)
	for head := range c.heads.KVHeads {
		c.download(cuda.Bytes(rowOf(sums, head, n)), c.blockSums+device.Pointer(4*(head*c.limits.Tokens+block.first)))
	}
	return sums
}

// observe adds up the attention of a wave's blocks that are watched.
func (c *CUDA) observe(b *cudaBatch, layer int, w *wave) {
	a := c.attention(b)
	a.Layer = layer
	for _, kind := range []struct {
		*watches
		block bool
	}{{&w.watchSteps, false}, {&w.watchBlocks, true}} {
		if n := len(kind.held.values); n > 0 {
			a.Places, a.Live = kind.heldPlace.at, b.live.at
			c.check(c.kernels.Observe(c.stream, &a, kind.held.at, n, b.parts(), kind.most, kind.block))
		}
		if n := len(kind.own.values); n > 0 {
			a.Places, a.Live = kind.ownPlace.at, b.ownLive.at
			c.check(c.kernels.Observe(c.stream, &a, kind.own.at, n, b.parts(), kind.mostOwn, kind.block))
		}
	}
}
