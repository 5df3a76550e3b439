package cache

// Ledger is the plan of a sequence that decides for one of p, whose keys and values lie on
// another device: it has its slots and evicts when and what that would, and keeps of every token and KV head one number of
// 16 bits as its key and one as its value. Where the policy observes nothing, all KV heads
// hold the same, and the ledger has one alone.
func (p Plan) Ledger() Plan {
	keeps := p.Keeps
	if !p.Watches() {
		p.Shape.Layers, p.Shape.KVHeads, keeps = 1, 1, keeps[:1]
	}
	p.Spec.State = ""
	p.Shape.HeadDim, p.Shape.Group, p.Shape.Parts, p.Shape.Ranks = 1, 1, 1, nil
	p.divide(keeps)
	return p
}

// Watches tells whether the policy observes attention.
func (p Plan) Watches() bool { return NewPolicy(p.Spec).Observes().Rows != NoRows }

// HeldBytes is what a sequence takes that holds so many tokens of every KV head, states included.
func (p Plan) HeldBytes(tokens int) int64 {
	total := int64(0)
	for i := range p.Slots {
		total += p.bytes(i, tokens, 0)
	}
	return total
}
