package cache

import "lessrag/lesskernels/cpu"

// How tokens are stored: in 16 bits, whole, for as long as they are recent; later, where
// the Spec says so, packed in groups of 32 with fewer bits (KIVI), fewer key channels
// (ThinK) or both. What is packed leaves as a whole group: a key's scales are shared by
// the tokens of its group, so that none of them can go alone without its bytes staying
// behind. The first tokens of a sequence are never packed.
const (
	GroupTokens = cpu.PackTokens

	recentTokens = 128 // R of KIVI: at most so many recent tokens in 16 bits, and whole
	thinkWindow  = 32  // of ThinK: the queries that choose channels
	looseTokens  = SinkTokens + recentTokens
)

// Packs tells whether older tokens are stored in another form than recent ones.
func (s Spec) Packs() bool { return s.Bits != 0 || s.Think != 0 }

// keyChannels is how many of d channels a packed key keeps.
func (s Spec) keyChannels(d int) int { return d - d*s.Think/100 }

// Packing is how groups are stored; the zero Packing where none are.
func (p Plan) Packing() cpu.Packing {
	if !p.packs() {
		return cpu.Packing{}
	}
	bits := p.Spec.Bits
	if bits == 0 {
		bits = 16
	}
	d := p.Shape.valueDim()
	return cpu.Packing{Bits: bits, Keys: p.Spec.keyChannels(d), Values: d}
}

// packs tells whether sequences with this plan pack tokens: those that prompts are
// staged in do not.
func (p Plan) packs() bool { return p.Spec.Packs() && !p.Staging }

// slots is what KV head i is given for so many tokens: slots, and how many groups of
// them are packed.
func (p Plan) slots(tokens int) (slots, groups int) {
	if p.packs() && tokens > looseTokens {
		groups = (tokens - looseTokens + GroupTokens - 1) / GroupTokens
		return looseTokens + groups*GroupTokens, groups
	}
	return tokens, 0
}

// Loose is how many of the slots of KV head i are in 16 bits.
func (p Plan) Loose(i int) int {
	if p.Groups == nil {
		return p.Slots[i]
	}
	return p.Slots[i] - p.Groups[i]*GroupTokens
}

// bytes is what KV head i takes with so many slots, of which groups are packed.
func (p Plan) bytes(i, slots, groups int) int64 {
	loose := int64(slots - groups*GroupTokens)
	return loose*4*int64(p.Shape.HeadDim) + int64(groups)*p.groupBytes(i) + int64(slots)*p.noteBytes() + p.fixedBytes(i)
}

// groupBytes is one packed group of KV head i.
func (p Plan) groupBytes(i int) int64 {
	return 2 * int64(p.groupWords()+p.psiWords(i))
}

// groupWords is a packed group in 16-bit words. A ledger only notes where it is.
func (p Plan) groupWords() int {
	if p.ledgers && p.packs() {
		return 2
	}
	return p.Packing().Words()
}

// psiWords is what a group remembers of its keys as they were before channels were
// pruned: LESS absorbs ψ of the whole key, [32, rank] bf16.
func (p Plan) psiWords(i int) int {
	if p.Spec.State != Less || p.Spec.Think == 0 {
		return 0
	}
	return GroupTokens * p.Shape.Ranks[i]
}

// maskWords and queryFloats are what a KV head remembers for ThinK: which channels its
// packed keys keep, a number each; and the mean squares of the last queries, by channel,
// from which they are chosen.
func (p Plan) maskWords() int {
	if p.Spec.Think == 0 || p.Staging {
		return 0
	}
	return (p.Packing().Keys + 1) &^ 1
}

func (p Plan) queryFloats() int {
	if p.Spec.Think == 0 {
		return 0
	}
	return p.Shape.valueDim()
}
