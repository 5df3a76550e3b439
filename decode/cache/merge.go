package cache

import (
	"math"

	"lessrag/lesskernels/cpu"
)

// merge replaces the values, and where the policy says so the keys, of what stays of
// KV head i's tokens h and a block by the mean over them and all tokens that do not stay
// and are nearest to them by position; of two as near, the earlier takes it. The sink
// takes none: nearly every query attends to it for want of something better, and would
// read what was merged into it. It does so before anything moves.
func (s *Sequence) merge(i int, h *head, block head, about Statistics) {
	policy, ok := s.policy.(Merger)
	if !ok || len(s.kept) == 0 {
		return
	}
	values, keys := policy.Merges(about)
	if !values {
		return
	}
	from := 0 // the first token that may be nearest to this anchor
	for j, anchor := range s.kept {
		if from = max(from, min(elasticStart, len(about.Positions))); int(anchor) < elasticStart {
			continue
		}
		to := len(about.Positions)
		if j+1 < len(s.kept) {
			next := s.kept[j+1]
			for to = int(anchor) + 1; to < int(next); to++ {
				if about.Positions[to]-about.Positions[anchor] > about.Positions[next]-about.Positions[to] {
					break
				}
			}
		}
		if to-from > 1 {
			s.mean(i, h, block, from, to, int(anchor), false)
			if keys {
				s.mean(i, h, block, from, to, int(anchor), true)
			}
		}
		from = to
	}
}

// mean writes to the anchor's row the mean of the rows from…to of what a KV head
// holds followed by a block. What is packed neither takes others up nor is taken up.
func (s *Sequence) mean(i int, h *head, block head, from, to, anchor int, key bool) {
	front, packed := h.front(), h.settled*GroupTokens
	if packed == 0 {
		front = h.len
	}
	loose := func(i int) int { // among what is in 16 bits, and the block; below 0, it is packed
		switch {
		case i < front:
			return i
		case i < front+packed:
			return -1
		}
		return i - packed
	}
	if anchor = loose(anchor); anchor < 0 {
		return
	}
	all := s.members[:0]
	for i := from; i < to; i++ {
		if at := loose(i); at >= 0 {
			all = append(all, at)
		}
	}
	s.members = all
	if s.handlers.Mean != nil {
		s.handlers.Mean(i/s.plan.Shape.KVHeads, i%s.plan.Shape.KVHeads, anchor, all, key)
		return
	}
	rows := func(h *head) []uint16 {
		if key {
			return h.k
		}
		return h.v
	}
	dim, parts := s.plan.Shape.HeadDim, max(1, s.plan.Shape.Parts)
	row := func(i int) []uint16 {
		if n := h.loose(); i >= n {
			return rows(&block)[(i-n)*dim : (i-n+1)*dim]
		}
		return rows(h)[i*dim : (i+1)*dim]
	}
	width := dim / parts
	if cap(s.merged) < width {
		s.merged, s.rounded = make([]float64, width), make([]float32, width)
	}
	sum, rounded := s.merged[:width], s.rounded[:width]
	clear(sum)
	for _, i := range all {
		for j, x := range row(i) { // parts of a number are added as the numbers are
			sum[j%width] += float64(math.Float32frombits(uint32(x) << 16))
		}
	}
	for j := range sum {
		sum[j] /= float64(len(all))
	}
	for part := range parts { // each holds what rounding those before left over
		for j, x := range sum {
			rounded[j] = float32(x)
		}
		to := row(anchor)[part*width : (part+1)*width]
		cpu.BF16(to, rounded)
		for j, x := range to {
			sum[j] -= float64(math.Float32frombits(uint32(x) << 16))
		}
	}
}
