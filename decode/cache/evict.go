package cache

import (
	"fmt"
	"slices"
)

// evict cuts every KV head of the layer down to its budget, counting a block of
// n tokens that is not stored yet as if it followed what the head holds. Room is
// made for coming tokens.
func (s *Sequence) evict(layer int, k, v []uint16, columns []float32, n, coming int) {
	kvHeads, dim := s.plan.Shape.KVHeads, s.plan.Shape.HeadDim
	all := n > 0 && s.holds(layer, n) // a block that could only be stored after it was attended
	s.block = zeros(s.block, kvHeads*n*s.width)
	for kvHead := 0; kvHead < kvHeads && columns != nil; kvHead++ {
		size := len(columns) / kvHeads
		s.join(s.block[kvHead*n:(kvHead+1)*n], columns[kvHead*size:(kvHead+1)*size], n)
	}
	var about Statistics
	for kvHead := range kvHeads {
		i := layer*kvHeads + kvHead
		h := &s.heads[i]
		if kvHead == 0 || s.policy.Grain() == PerHead {
			about = s.choose(layer, kvHead, n, coming, all)
		}
		var block head
		if n > 0 {
			from, to := kvHead*n, (kvHead+1)*n
			block = head{k: k[from*dim : to*dim], v: v[from*dim : to*dim], positions: s.positions[h.len:], len: n}
			if s.width > 0 {
				block.attention = s.block[from:to]
			}
		}
		s.merge(i, h, block, about)
		s.compact(i, block)
		if s.plan.sinkTokens() > 0 {
			s.renumber(h, len(about.Positions))
		}
		if d, ok := s.policy.(Decider); ok && !all && (d.Eager() || h.len < len(about.Positions)) {
			h.decided = s.position + n
		}
	}
}

// choose asks the policy which of the tokens stay: s.kept, rising indices into
// what the head holds followed by the block. With all, every one stays.
func (s *Sequence) choose(layer, kvHead, n, coming int, all bool) Statistics {
	h := s.head(layer, kvHead)
	s.positions = append(s.positions[:0], h.positions[:h.len]...)
	for i := range n {
		s.positions = append(s.positions, int32(s.position+i))
	}
	total, slots := len(s.positions), len(h.positions)
	if (s.plan.Staging || !s.plan.Spec.Bounded()) && total > slots {
		panic(fmt.Sprintf("cache: a cache of %d slots that evicts nothing was fed beyond them", slots))
	}
	s.scores = slices.Grow(s.scores[:0], total)[:total]
	s.ranks = slices.Grow(s.ranks[:0], total)[:total]
	about := Statistics{Layer: layer, Head: kvHead, Position: s.position + n, Decided: h.decided, Coming: coming,
		Positions: s.positions, Attention: s.sum(layer, kvHead, n),
		Keep: s.plan.Keeps[layer*s.plan.Shape.KVHeads+kvHead], Chosen: s.chosen}
	switch policy := s.policy.(type) {
	case Decider:
		if !all {
			s.kept = policy.Decide(s.kept[:0], about)
			s.keepGroups(h, about.Keep)
			return about
		}
	case Scorer:
		policy.Score(s.scores, about)
	}
	if all {
		about.Keep = total
	}
	if h.settled == 0 {
		s.kept = Keep(s.kept[:0], s.scores, about.Keep, s.ranks)
		return about
	}
	s.units = appendUnits(s.units[:0], s.scores, h.front(), h.settled)
	s.kept = keepUnits(s.kept[:0], s.units, about.Keep)
	return about
}

// keepGroups makes whole groups of what a Decider has kept of packed tokens: those of which
// most tokens stay, as many as there is room for, and none of which no token does.
func (s *Sequence) keepGroups(h *head, keep int) {
	if h.settled == 0 {
		return
	}
	clear(s.scores)
	for _, at := range s.kept {
		s.scores[at] = 1
	}
	s.units = appendUnits(s.units[:0], s.scores, h.front(), h.settled)
	s.units = slices.DeleteFunc(s.units, func(u unit) bool { return u.score == 0 })
	s.kept = keepUnits(s.kept[:0], s.units, keep)
}

// compact leaves in KV head i the tokens s.kept and hands every other one over,
// once. s.kept indexes what the head holds followed by the block.
func (s *Sequence) compact(i int, block head) {
	h, dim := &s.heads[i], s.plan.Shape.HeadDim
	held, front := *h, h.front()
	s.newest = s.position + block.len - 1
	s.total = held.len + block.len
	packed := held.settled * GroupTokens
	if packed == 0 {
		front = held.len
	}
	recent := held
	recent.k, recent.v = held.k[front*dim:], held.v[front*dim:]
	recent.positions, recent.attention = held.positions[front+packed:], held.attention[(front+packed)*s.width:]
	split := func(at int) int { n, _ := slices.BinarySearch(s.kept, int32(at)); return n }
	h.len, h.settled = 0, 0
	s.sift(i, held, 0, front, s.kept[:split(front)])
	s.siftGroups(i, held, front, s.kept[split(front):])
	s.sift(i, recent, front+packed, held.len-front-packed, s.kept[split(front+packed):split(held.len)])
	s.sift(i, block, held.len, block.len, s.kept[split(held.len):])
}

// sift appends to KV head i those of source's n tokens whose index, counted from
// base, is among kept, and hands the others over. source may be what the head held
// before: a token only ever moves down.
func (s *Sequence) sift(i int, source head, base, n int, kept []int32) {
	dim := s.plan.Shape.HeadDim
	runs(base, base+n, kept, func(keep bool, first, last int) {
		first, last = first-base, last-base
		k, v, positions := source.k[first*dim:last*dim], source.v[first*dim:last*dim], source.positions[first:last]
		if !keep {
			s.handOver(i, s.unturned(i, k, positions, base+first), v, nil, positions)
			return
		}
		var attention []float32
		if source.attention != nil {
			attention = source.attention[first*s.width : last*s.width]
		}
		s.put(i, k, v, positions, attention)
	})
}

// put appends tokens to KV head i; older ones are packed where room in 16 bits ends.
func (s *Sequence) put(i int, k, v []uint16, positions []int32, attention []float32) {
	h, dim := &s.heads[i], s.plan.Shape.HeadDim
	for len(positions) > 0 {
		if h.loose() == s.looseSlots(h) {
			s.settle(i)
		}
		n := min(len(positions), s.looseSlots(h)-h.loose())
		copy(h.k[h.loose()*dim:], k[:n*dim])
		copy(h.v[h.loose()*dim:], v[:n*dim])
		copy(h.positions[h.len:], positions[:n])
		if attention != nil {
			copy(h.attention[h.len*s.width:], attention[:n*s.width])
			attention = attention[n*s.width:]
		}
		k, v, positions = k[n*dim:], v[n*dim:], positions[n:]
		h.len += n
	}
}

// runs cuts from…to into runs of indices that are among kept and of others, in
// order; kept rises.
func runs(from, to int, kept []int32, run func(keep bool, first, last int)) {
	for from < to {
		next := to
		if len(kept) > 0 {
			next = int(kept[0])
		}
		if next > from {
			run(false, from, next)
			from = next
			continue
		}
		last := from
		for len(kept) > 0 && int(kept[0]) == last {
			kept, last = kept[1:], last+1
		}
		run(true, from, last)
		from = last
	}
}

// handOver gives away consecutive tokens that KV head i has evicted.
func (s *Sequence) handOver(i int, k, v, psi []uint16, positions []int32) {
	s.evicted += int64(len(positions))
	state := s.State(i/s.plan.Shape.KVHeads, i%s.plan.Shape.KVHeads)
	if s.handlers.Absorb != nil {
		s.handlers.Absorb(state, i/s.plan.Shape.KVHeads, i%s.plan.Shape.KVHeads, k, v, psi, positions)
	}
	if state != nil {
		state.Absorbed += len(positions)
	}
}
