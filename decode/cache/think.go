package cache

import (
	"math"
	"slices"
)

// KeptChannels writes to kept, rising, which channels of the keys of a KV head add most to attention (ThinK,
// arXiv 2407.21018): ‖q_c k_cᵀ‖_F² = ‖q_c‖²·‖k_c‖² for the column q_c of the last queries and
// k_c of all keys, here of means. queries [d] are the mean squares of the queries, over those
// of the query heads that share the KV head as well, all 0 where none were seen: then keys alone choose; squares [d]
// are the sums of squares of n keys.
func KeptChannels(kept []uint16, queries []float32, squares []float64, n int) {
	scores, unseen := make([]float64, len(queries)), slices.Max(queries) == 0
	for c, q := range queries {
		if unseen {
			q = 1
		}
		scores[c] = squares[c] * (float64(q) / float64(max(1, n)))
	}
	thinkChannels(kept, scores)
}

// squaresOf adds up the squares of keys [n, d] by channel.
func squaresOf(keys []float32, d int) []float64 {
	squares := make([]float64, d)
	for i, x := range keys {
		squares[i%d] += float64(x) * float64(x)
	}
	return squares
}

// thinkChannels writes the channels with the highest scores to kept, rising; of equal
// ones the first.
func thinkChannels(kept []uint16, scores []float64) {
	order := make([]int, len(scores))
	for c := range order {
		order[c] = c
	}
	slices.SortStableFunc(order, func(x, y int) int {
		switch a, b := scores[x], scores[y]; {
		case a > b || !math.IsNaN(a) && math.IsNaN(b):
			return -1
		case a < b || math.IsNaN(a) && !math.IsNaN(b):
			return 1
		}
		return 0
	})
	for i := range kept {
		kept[i] = uint16(order[i])
	}
	slices.Sort(kept)
}

// prune chooses the channels that the packed keys of KV head i will keep, once: when
// the first of them are packed, from keys [n, headDim] bf16 that are still whole.
func (s *Sequence) prune(i int, keys []uint16) {
	h := &s.heads[i]
	if h.pruned || len(h.channels) == 0 {
		return
	}
	var whole []float32
	s.widen(&whole, keys)
	d := len(h.queries)
	KeptChannels(h.channels[:s.packing.Keys], h.queries, squaresOf(whole, d), len(whole)/d)
	h.pruned = true
}

// Queries tells whether the sequence wants to know the queries of a block, for ThinK.
func (s *Sequence) Queries(layer, kvHead int) bool {
	h := s.head(layer, kvHead)
	return len(h.queries) > 0 && !h.pruned
}

// Ask takes a block's last min(n, 32) queries of a KV head: squares [dim] are their
// means by channel, over the query heads too. Of a block of fewer than 32, queries
// before it count for the rest.
func (s *Sequence) Ask(layer, kvHead, n int, squares []float32) {
	h := s.head(layer, kvHead)
	_, share := LastQueries(s.position, n)
	for c, x := range squares {
		h.queries[c] += float32((x - h.queries[c]) * share)
	}
}

// LastQueries is how many last queries of a block of n, which begins at a position, choose channels, and which share they have
// of all that do.
func LastQueries(position, n int) (last int, share float32) {
	n = min(n, thinkWindow)
	before := min(position, thinkWindow-n)
	return n, float32(n) / float32(n+before)
}
