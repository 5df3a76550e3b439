package cache

import (
	"fmt"
	"slices"
)

// evict cuts every KV head of the layer down to its budget, counting a block of
// n tokens that is not stored yet as if it followed what the head holds. Room is
// made for coming tokens.
func (s *Sequence) evict(layer int, k, v []uint16, columns []float32, n, coming int) {
	if s.plan.Staging || !s.plan.Spec.Bounded() {
		panic(fmt.Sprintf("cache: a cache of %d slots that evicts nothing was fed beyond them", s.plan.Keep))
	}
	kvHeads, dim := s.plan.Shape.KVHeads, s.plan.Shape.HeadDim
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
			about = s.choose(layer, kvHead, n, coming)
		}
		var block head
		if n > 0 {
			from, to := kvHead*n, (kvHead+1)*n
			block = head{k: k[from*dim : to*dim], v: v[from*dim : to*dim], positions: s.positions[h.len:], len: n}
			if s.width > 0 {
				block.attention = s.block[from:to]
			}
		}
		s.merge(h, block, about)
		s.compact(i, block)
		if s.plan.sinkTokens() > 0 {
			s.renumber(h, len(about.Positions))
		}
		if d, ok := s.policy.(Decider); ok && (d.Eager() || h.len < len(about.Positions)) {
			h.decided = s.position + n
		}
	}
}

// choose asks the policy which of the tokens stay: s.kept, rising indices into
// what the head holds followed by the block.
func (s *Sequence) choose(layer, kvHead, n, coming int) Statistics {
	h := s.head(layer, kvHead)
	s.positions = append(s.positions[:0], h.positions[:h.len]...)
	for i := range n {
		s.positions = append(s.positions, int32(s.position+i))
	}
	total := len(s.positions)
	s.scores = slices.Grow(s.scores[:0], total)[:total]
	s.sorted = slices.Grow(s.sorted[:0], total)[:total]
	about := Statistics{Layer: layer, Head: kvHead, Position: s.position + n, Decided: h.decided, Coming: coming,
		Positions: s.positions, Attention: s.sum(layer, kvHead, n),
		Keep: s.plan.Keeps[layer*s.plan.Shape.KVHeads+kvHead], Chosen: s.chosen}
	switch policy := s.policy.(type) {
	case Decider:
		s.kept = policy.Decide(s.kept[:0], about)
	case Scorer:
		policy.Score(s.scores, about)
		s.kept = Keep(s.kept[:0], s.scores, about.Keep, s.sorted)
	}
	return about
}

// compact leaves in KV head i the tokens s.kept and hands every other one over,
// once. s.kept indexes what the head holds followed by the block.
func (s *Sequence) compact(i int, block head) {
	h := &s.heads[i]
	held := h.len
	s.newest = s.position + block.len - 1
	s.total = held + block.len
	split, _ := slices.BinarySearch(s.kept, int32(held))
	h.len = 0
	s.sift(i, *h, 0, held, s.kept[:split])
	s.sift(i, block, held, block.len, s.kept[split:])
}

// sift appends to KV head i those of source's n tokens whose index, counted from
// base, is among kept, and hands the others over. source may be what the head held
// before: a token only ever moves down.
func (s *Sequence) sift(i int, source head, base, n int, kept []int32) {
	h, dim := &s.heads[i], s.plan.Shape.HeadDim
	runs(base, base+n, kept, func(keep bool, first, last int) {
		first, last = first-base, last-base
		k, v, positions := source.k[first*dim:last*dim], source.v[first*dim:last*dim], source.positions[first:last]
		if !keep {
			s.handOver(i, s.unturned(i, k, positions, base+first), v, positions)
			return
		}
		copy(h.k[h.len*dim:], k)
		copy(h.v[h.len*dim:], v)
		copy(h.positions[h.len:], positions)
		if source.attention != nil {
			copy(h.attention[h.len*s.width:], source.attention[first*s.width:last*s.width])
		}
		h.len += last - first
	})
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
func (s *Sequence) handOver(i int, k, v []uint16, positions []int32) {
	s.evicted += int64(len(positions))
	state := s.State(i/s.plan.Shape.KVHeads, i%s.plan.Shape.KVHeads)
	if s.handlers.Absorb != nil {
		s.handlers.Absorb(state, i/s.plan.Shape.KVHeads, i%s.plan.Shape.KVHeads, k, v, positions)
	}
	if state != nil {
		state.Absorbed += len(positions)
	}
}
