package cache

// Policies that number what they keep anew, without gaps: rotary positions are
// relative, so it is enough to turn a key towards the newest token by the number of
// tokens after it that were evicted. The newest stays where it is, and what is held
// always lies at the positions that end with it. The sinks, which are turned as long
// as the sequence lasts, are turned from an exact copy each time.

// Turn writes to dst the keys k [n, headDim] bf16, post-RoPE, as if each stood by
// positions later. dst may be k.
type Turn func(dst, k []uint16, by int)

// renumber turns what a KV head has kept of so many tokens: s.kept.
func (s *Sequence) renumber(h *head, total int) {
	if total == h.len {
		return
	}
	dim := s.plan.Shape.HeadDim
	if !h.turned {
		copy(h.sinks, h.k[:SinkTokens*dim])
		h.turned = true
	}
	s.handlers.Turn(h.k[:SinkTokens*dim], h.sinks, s.newest+1-h.len)
	by := func(i int) int { return total - h.len - int(s.kept[i]) + i } // evicted after token i
	for from := SinkTokens; from < h.len; {
		to := from + 1
		for to < h.len && by(to) == by(from) {
			to++
		}
		if by(from) == 0 {
			return // nor was any evicted after later ones
		}
		s.handlers.Turn(h.k[from*dim:to*dim], h.k[from*dim:to*dim], by(from))
		from = to
	}
}

// unturned are keys that KV head i gives up, the first of them token at of those that
// were decided on, as they were before they were numbered anew.
func (s *Sequence) unturned(i int, k []uint16, positions []int32, at int) []uint16 {
	if s.plan.sinkTokens() == 0 || s.states[i].size() == 0 || !s.heads[i].turned {
		return k
	}
	dim := s.plan.Shape.HeadDim
	s.original = append(s.original[:0], k...)
	for j, position := range positions {
		if by := int(position) - (s.newest + 1 - s.total + at + j); by != 0 {
			s.handlers.Turn(s.original[j*dim:(j+1)*dim], k[j*dim:(j+1)*dim], by)
		}
	}
	return s.original
}
