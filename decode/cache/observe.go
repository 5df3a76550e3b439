package cache

import "lessrag/lesskernels/cpu"

// Observed tells which rows of a block of n tokens, whose last question rows are
// the question's, the sequence wants the attention of: those from first on, joined
// by reduce within each query head. first is n where none is wanted.
func (s *Sequence) Observed(n, question int) (first int, reduce Reduce) {
	seen := s.policy.Observes()
	switch seen.Rows {
	case EveryRow:
		return 0, seen.Reduce
	case NewestRow:
		return n - 1, seen.Reduce
	case QuestionRows:
		if s.plan.Staging {
			return n - min(n, question), seen.Reduce
		}
	}
	return n, seen.Reduce
}

// Observes tells what the sequence wants to know of attention now.
func (s *Sequence) Observes() Observation { return s.policy.Observes() }

// Observe takes the attention of the rows that Observed named over the tokens that
// a KV head holds from slot from on: columns [group, tokens], a number for each
// query head and token. Where the block does not fit, the attention over its own
// tokens goes to Insert. Calls for different slots may run at the same time. It uses
// columns up. Slots are those of the Segment.
func (s *Sequence) Observe(layer, kvHead, from int, columns []float32) {
	h := s.head(layer, kvHead)
	n := len(columns) / max(1, s.plan.Shape.Group)
	front, packed := h.front(), h.settled*GroupTokens
	if packed == 0 || from >= front {
		from += packed
	} else if from+n > front { // some before what is packed, some behind
		s.observeAround(h, from, front, columns, n)
		return
	}
	s.join(h.attention[from*s.width:(from+n)*s.width], columns, n)
}

// observeAround is Observe of n slots from one of the first on, beyond front.
func (s *Sequence) observeAround(h *head, from, front int, columns []float32, n int) {
	group, first := s.plan.Shape.Group, front-from
	around := make([]float32, group*n)
	before, behind := around[:group*first], around[group*first:]
	for g := range group {
		copy(before[g*first:(g+1)*first], columns[g*n:])
		copy(behind[g*(n-first):(g+1)*(n-first)], columns[g*n+first:])
	}
	s.join(h.attention[from*s.width:front*s.width], before, first)
	at := front + h.settled*GroupTokens
	s.join(h.attention[at*s.width:(at+n-first)*s.width], behind, n-first)
}

// ObservePacked is Observe for what is Packed.
func (s *Sequence) ObservePacked(layer, kvHead, from int, columns []float32) {
	h := s.head(layer, kvHead)
	n := len(columns) / max(1, s.plan.Shape.Group)
	from += h.front()
	s.join(h.attention[from*s.width:(from+n)*s.width], columns, n)
}

// join adds to attention [tokens, width] the columns [group, tokens], or what the
// policy asks for in place of adding.
func (s *Sequence) join(attention, columns []float32, tokens int) {
	seen := s.policy.Observes()
	if seen.Rows == NewestRow {
		clear(attention)
	}
	if len(columns) == 0 {
		return
	}
	heads := len(columns) / tokens
	row := func(head int) []float32 { return columns[head*tokens : (head+1)*tokens] }
	switch {
	case seen.Reduce == Max && s.width > 1:
		for head := range heads {
			for i, p := range row(head) {
				at := i*s.width + head
				attention[at] = max(attention[at], p)
			}
		}
	case seen.Reduce == Sum:
		for head := range heads {
			cpu.Axpy(attention, 1, row(head))
		}
	default: // Decayed, Last, Max of one query head: the largest of the query heads first
		most := row(0)
		for head := 1; head < heads; head++ {
			cpu.Raise(most, row(head))
		}
		if seen.Reduce == Decayed {
			cpu.Axpy(attention, 1, most)
		} else {
			cpu.Raise(attention, most)
		}
	}
}

// sum fills s.attention with what the policy scores: the attention of KV head
// kvHead, or of all heads of the layer, over what they hold and a block of n tokens.
func (s *Sequence) sum(layer, kvHead, n int) []float32 {
	if s.width == 0 {
		return nil
	}
	first, last := kvHead, kvHead+1
	if s.policy.Grain() == PerLayer {
		first, last = 0, s.plan.Shape.KVHeads
	}
	held := s.head(layer, first).len
	s.attention = zeros(s.attention, held+n)
	for head := first; head < last; head++ {
		cpu.Axpy(s.attention[:held], 1, s.head(layer, head).attention[:held])
		cpu.Axpy(s.attention[held:], 1, s.block[head*n:(head+1)*n])
	}
	return s.attention
}

// zeros is x with n zeros.
func zeros(x []float32, n int) []float32 {
	if cap(x) < n {
		return make([]float32, n, n+n/2)
	}
	x = x[:n]
	clear(x)
	return x
}
