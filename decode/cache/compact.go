package cache

import "slices"

// compact leaves in KV head i the tokens s.kept and hands every other one over,
// once. s.kept indexes what the head holds followed by the block.
func (s *Sequence) compact(i int, block head) {
	h := &s.heads[i]
	held := h.len
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
			s.handOver(i, k, v, positions)
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
