package cache

// Ledger is the plan of a sequence that decides for one of p, whose keys and values lie on
// another device: it has its slots and evicts when and what that would, and keeps of every token and KV head one number of
// 16 bits as its key and one as its value. Where the policy observes nothing and prompts are not staged, all KV heads
// hold the same, and the ledger has one alone.
func (p Plan) Ledger() Plan { return p.ledger(!p.Watches() && !p.Spec.Stages() && !p.Staging) }

// Pace is a ledger of one KV head: it tells how many tokens each holds, and when it evicts, where that does not depend on
// attention.
func (p Plan) Pace() Plan { return p.ledger(true) }

// Ledgers is a Ledger in which every KV head has its own.
func (p Plan) Ledgers() Plan { return p.ledger(false) }

// Spread fills an empty ledger of all KV heads with what one that stands for all of them holds in 16 bits.
func (s *Sequence) Spread(one *Sequence) {
	from := &one.heads[0]
	for i := range s.heads {
		h := &s.heads[i]
		h.len, h.decided = from.len, from.decided
		copy(h.k, from.k)
		copy(h.v, from.v)
		copy(h.positions, from.positions[:from.len])
	}
	s.position, s.evicted = one.position, one.evicted*int64(len(s.heads))
}

func (p Plan) ledger(one bool) Plan {
	keeps := p.Keeps
	if one {
		p.Shape.Layers, p.Shape.KVHeads, keeps = 1, 1, keeps[:1]
	}
	p.Spec.State = ""
	if p.Spec.Packs() {
		p.Spec.Bits, p.Spec.Think = 16, 0 // how does not matter
	}
	p.ledgers = true
	p.Shape.HeadDim, p.Shape.Group, p.Shape.Parts, p.Shape.Ranks = 1, 1, 1, nil
	p.divide(keeps)
	return p
}

// Watches tells whether the policy observes attention.
func (p Plan) Watches() bool { return NewPolicy(p.Spec).Observes().Rows != NoRows }

// Eager tells whether the policy decides although all fits.
func (p Plan) Eager() bool {
	d, ok := NewPolicy(p.Spec).(Decider)
	return ok && d.Eager()
}

// Foretold tells whether how many tokens a KV head holds, and when it evicts, does not depend on attention.
func (p Plan) Foretold() bool {
	return !p.Eager() && !(p.packs() && p.Watches()) // groups are kept or not by what their tokens get
}

// HeldOf is what a sequence with plan p holds of which s is the ledger.
func (s *Sequence) HeldOf(p Plan) Held {
	var held Held
	for i := range p.Slots {
		n := s.heads[i%len(s.heads)].len
		gone := s.position - n // every token that was fed is held or has left
		held.Bytes += p.bytes(i, n, s.heads[i%len(s.heads)].settled)
		held.Kept += n
		held.Evicted += gone
		if p.stateFloats(i) > 0 {
			held.Absorbed += gone
		}
	}
	heads := max(1, len(p.Slots))
	held.Kept, held.Evicted, held.Absorbed = held.Kept/heads, held.Evicted/heads, held.Absorbed/heads
	return held
}
