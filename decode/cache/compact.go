package cache

// compact leaves in h the tokens s.kept and hands every other one over, once.
// s.kept indexes what h holds followed by block. In place: a kept token only
// ever moves down.
func (s *Sequence) compact(layer, kvHead int, h, block *head) {
	dim := s.plan.Shape.HeadDim
	held, total := h.len, h.len+block.len
	kept := s.kept
	h.len = 0
	for from := 0; from < total; {
		// One run of kept or evicted tokens, inside h or inside the block.
		end := total
		if from < held {
			end = held
		}
		keep := len(kept) > 0 && int(kept[0]) == from
		to := from + 1
		if keep {
			kept = kept[1:]
			for to < end && len(kept) > 0 && int(kept[0]) == to {
				kept, to = kept[1:], to+1
			}
		} else {
			for to < end && !(len(kept) > 0 && int(kept[0]) == to) {
				to++
			}
		}
		source, first, last := h, from, to
		if from >= held {
			source, first, last = block, from-held, to-held
		}
		k, v := source.k[first*dim:last*dim], source.v[first*dim:last*dim]
		positions := source.positions[first:last]
		from = to

		if keep {
			if source != h || first != h.len {
				copy(h.k[h.len*dim:], k)
				copy(h.v[h.len*dim:], v)
				copy(h.positions[h.len:], positions)
			}
			h.len += last - first
			continue
		}
		s.evicted += int64(last - first)
		if s.absorb != nil {
			s.absorb(layer, kvHead, k, v, positions)
		}
	}
}
