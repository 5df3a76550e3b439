package cache

// Ledger is the plan of a sequence that decides for one of p, whose keys and values lie on
// another device: it has its slots and evicts when and what that would, and keeps of every token and KV head one number of
// 16 bits as its key and one as its value. Where the policy observes nothing, all KV heads
// hold the same, and the ledger has one alone.
func (p Plan) Ledger() Plan { return p.ledger(!p.Watches()) }

// Pace is a ledger of one KV head: it tells how many tokens each holds, and when it evicts, where that does not depend on
// attention.
func (p Plan) Pace() Plan { return p.ledger(true) }

func (p Plan) ledger(one bool) Plan {
	keeps := p.Keeps
	if one {
		p.Shape.Layers, p.Shape.KVHeads, keeps = 1, 1, keeps[:1]
	}
	p.Spec.State = ""
	p.Shape.HeadDim, p.Shape.Group, p.Shape.Parts, p.Shape.Ranks = 1, 1, 1, nil
	p.divide(keeps)
	return p
}

// Watches tells whether the policy observes attention.
func (p Plan) Watches() bool { return NewPolicy(p.Spec).Observes().Rows != NoRows }

// Foretold tells whether how many tokens a KV head holds, and when it evicts, does not depend on attention.
func (p Plan) Foretold() bool {
	d, ok := NewPolicy(p.Spec).(Decider)
	return !ok || !d.Eager()
}

// HeldOf is what a sequence with plan p holds of which s is the ledger.
func (s *Sequence) HeldOf(p Plan) Held {
	var held Held
	for i := range p.Slots {
		n := s.heads[i%len(s.heads)].len
		gone := s.position - n // every token that was fed is held or has left
		held.Bytes += p.bytes(i, n, 0)
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
