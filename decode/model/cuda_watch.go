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

// sights are all that is observed; what a block of an answer and one of a prompt are told apart by, the first two are.
var sights = [...]cuda.Sight{cuda.Few, cuda.Block, cuda.Most, cuda.Decayed, cuda.Last}

// sightOf is what rows of a sequence are observed for: an index of sights.
func (s *cudaSequence) sightOf(reduce cache.Reduce, rows int) int {
	switch {
	case reduce == cache.Last:
		return 4
	case reduce == cache.Decayed:
		return 3
	case reduce == cache.Max:
		return 2
	case rows*s.backend.heads.Group() <= oneTile:
		return 0
	}
	return 1
}

// watch notes which rows of a block are observed: over what its sequence holds, and over its own rows where
// these are not stored.
func (c *CUDA) watch(w *wave, block *cudaBlock, question int, scratch cuda.Place) {
	s := block.sequence
	first, reduce := s.books.Observed(block.n, question)
	if first == block.n {
		return
	}
	rows := cuda.Watch{First: int64(block.first + first), Rows: int64(block.n - first)}
	to := &w.watches[s.sightOf(reduce, block.n-first)]
	over, most := rows, block.saw
	width := int64(s.plan.Width())
	over.Sums, over.SumsLayer, over.SumsHead, over.Known = s.sums, s.place.Layer*width, s.place.Head*width, int64(s.known)
	switch {
	case s.plan.Staging && s.seen == never:
		over.Known = 0
	case s.plan.Staging: // the tokens since then have none
		over.Known = int64(s.seen - s.position - first - 1)
	case s.books.Observes().Rows == cache.NewestRow:
		over.Known = 0
	case s.late && s.known > 0: // all but the block, which fits then
		over.Known = -1
	}
	if !s.plan.Staging && block.n == 1 && block.saw > 0 {
		most = s.room // the same in every step
	}
	to.add(true, over, s.place, most)
	c.watchPacked(w, s, rows, reduce, over.Known != 0)
	if !block.fits {
		over = rows
		over.Sums, over.SumsHead = int64(c.blockSums/4)+int64(block.first), int64(c.limits.Tokens)
		to.add(false, over, scratch, block.n)
	}
	if s.plan.Staging {
		s.seen = s.position + block.n
	} else {
		s.known = block.saw
	}
}

// observe adds up the attention of a wave's blocks that are watched.
func (c *CUDA) observe(b *cudaBatch, layer int, w *wave) {
	a := c.attention(b)
	a.Layer = layer
	for i := range w.watches {
		k := &w.watches[i]
		for _, over := range []struct {
			watched *table[cuda.Watch]
			places  device.Pointer
			live    device.Pointer
			most    int
		}{{&k.held, k.heldPlace.at, c.liveAt(b, layer), k.most}, {&k.own, k.ownPlace.at, b.ownLive.at, k.mostOwn}} {
			if n := len(over.watched.values); n > 0 {
				a.Places, a.Live = over.places, over.live
				c.check(c.kernels.Observe(c.stream, &a, sights[i], over.watched.at, n, b.parts(), over.most, b.at.at, float32(cache.Rise(1))))
			}
		}
	}
}
