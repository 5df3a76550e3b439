package cache

import (
	"fmt"

	"lessrag/lesskernels/cpu"
)

// Absorb takes tokens that a KV head has just evicted: consecutive rows, each
// token of a sequence exactly once. Keys are post-RoPE, at their original positions
// (but for a head without a state of a policy that numbers tokens anew: as they lay). state is the head's, nil where it has none; its
// Absorbed counts the tokens afterwards. k, v and positions are valid during the call
// only. Where key channels are pruned, psi is what Features gave for the whole keys; it is
// nil for keys that are whole.
type Absorb func(state *State, layer, head int, k, v []uint16 /* [n, headDim] bf16 */, psi []uint16 /* [n, rank] bf16 */, positions []int32 /* [n] */)

// Features writes ψ of keys [n, dim], as they were stored and still whole: psi [n, rank].
type Features func(layer, head int, keys []float32, positions []int32, psi []float32)

// Handlers are what a Sequence cannot do itself. Any may be nil where nothing
// needs it: without Absorb, evicted tokens are forgotten.
type Handlers struct {
	Absorb   Absorb
	Turn     Turn     // for policies that number tokens anew
	Features Features // for LESS where key channels are pruned
	Mean     Mean     // in place of the sequence, for policies that merge
	Settle   Settle   // in place of the sequence, of a ledger
	Each     Each     // one after the other without it
}

// Mean replaces the key or the value of a token by the mean over several, itself among them: indices among what a KV
// head holds in 16 bits, followed by a block that is not stored yet. all is valid during the call.
type Mean func(layer, head, anchor int, all []int, key bool)

// Settle packs a group of 32 tokens, the k and v of a ledger, of some positions, and returns the note of it: those of its tokens are this one and
// the next ones.
type Settle func(layer, head int, k, v []uint16, positions []int32) uint32

// Each does something for each of n KV heads, in any order and at once, and returns when all is done.
type Each func(n int, do func(i int))

// Sequence is the cache of one running sequence. The memory of its keys, values
// and positions is taken when it is made and is exactly its Plan's. Not safe for concurrent use.
//
// A block of n tokens passes through every layer in five calls: MakeRoom; then,
// where the block Fits, Append for each KV head before attending; Observe for each
// KV head after attending, where Observed names rows; Insert where the block did
// not fit; Advance after the last layer (or Rewind after that, for a probe).
type Sequence struct {
	plan     Plan
	policy   Policy
	handlers Handlers
	memory   *slab
	heads    []head  // [layers·kvHeads]
	states   []State // [layers·kvHeads]
	width    int     // numbers of attention that every slot has
	packing  cpu.Packing
	position int   // of the next token
	chosen   int   // a Choice decided on the tokens before this position
	evicted  int64 // over all layers and KV heads

	*Scratch // shared by all sequences of a backend
}

// head is what one KV head of one layer holds. positions and attention are in the
// order of positions. Where older tokens are packed, these are between the first of the
// sequence and the recent ones, both of which are loose: see storage.go.
type head struct {
	k, v      []uint16  // [loose slots, headDim] bf16, keys post-RoPE
	positions []int32   // [slots] original positions
	attention []float32 // [slots, width] observed, or chosen
	len       int       // slots in use
	decided   int       // the sequence's position when tokens were last evicted, or could have been

	groups   []uint16  // [groups, words of a group] packed
	psi      []uint16  // [groups, 32, rank] bf16, ψ of the whole keys: see psiWords
	settled  int       // groups in use
	channels []uint16  // [keys, to an even number] what packed keys keep, rising
	pruned   bool      // channels is filled
	queries  []float32 // [dim] mean squares of the last queries

	sinks  []uint16 // [SinkTokens, headDim] the sinks' keys at their original positions, where they are renumbered
	turned bool     // sinks is filled
}

// loose is how many of the tokens are not packed.
func (h *head) loose() int { return h.len - h.settled*GroupTokens }

// front is how many loose tokens stand before the packed ones: what is left of the
// first of the sequence.
func (h *head) front() int {
	n := 0
	for n < min(SinkTokens, h.loose()) && h.positions[n] < SinkTokens {
		n++
	}
	return n
}

// Scratch is the working memory of evictions: one for all sequences of a backend.
// The zero value is ready for use.
type Scratch struct {
	positions []int32
	attention []float32
	block     []float32 // [kvHeads, n] attention over a block that is not stored yet
	scores    []float32
	ranks     []int32
	kept      []int32
	original  []uint16  // keys as they were before they were numbered anew
	members   []int     // of a mean
	merged    []float64 // [headDim/Parts] a mean
	rounded   []float32
	units     []unit
	settling

	total, newest int // tokens that are decided on, and the position of the last
}

func (h Handlers) each(n int, do func(i int)) {
	if h.Each != nil {
		h.Each(n, do)
		return
	}
	for i := range n {
		do(i)
	}
}

// NewSequence takes the Plan's memory.
func NewSequence(p Plan, handlers Handlers, scratch *Scratch) (*Sequence, error) {
	memory, err := newSlab(p.Bytes)
	if err != nil {
		return nil, fmt.Errorf("take %d bytes for a sequence with cache %s: %w", p.Bytes, p.Spec, err)
	}
	s := &Sequence{plan: p, handlers: handlers, memory: memory, width: p.Width(), packing: p.Packing(),
		heads: make([]head, len(p.Slots)), states: make([]State, len(p.Slots)), Scratch: scratch}
	s.decided(0)
	for i, groups := range p.Groups { // first of all: lines of codes lie at multiples of 64 bytes where groups do
		s.heads[i].groups = memory.bf16(groups * p.groupWords())
	}
	for i := range p.Slots { // 2-byte numbers before 4-byte ones: all are aligned
		s.heads[i].k = memory.bf16(p.Loose(i) * p.Shape.HeadDim)
		s.heads[i].v = memory.bf16(p.Loose(i) * p.Shape.HeadDim)
		s.heads[i].sinks = memory.bf16(p.sinkTokens() * p.Shape.HeadDim)
		s.heads[i].psi = memory.bf16(p.Groups[i] * p.psiWords(i))
		s.heads[i].channels = memory.bf16(p.maskWords())
	}
	for i, slots := range p.Slots {
		s.heads[i].positions = memory.int32s(slots)
		s.heads[i].attention = memory.float32s(slots * s.width)
		s.heads[i].queries = memory.float32s(p.queryFloats())
		s.states[i] = newState(p, i, memory)
	}
	return s, nil
}

// decided notes that a Choice decided on the tokens before a position: 0, on none.
// A policy that was not asked a question has nothing to go by; tova stands in.
func (s *Sequence) decided(position int) {
	s.chosen, s.policy = position, NewPolicy(s.plan.Spec)
	if s.plan.Spec.AsksQuestion() && !s.plan.Staging && position == 0 {
		s.policy = tova{}
	}
}

// Free gives the memory back. The sequence must not be used afterwards.
func (s *Sequence) Free() error {
	s.heads, s.states = nil, nil
	return s.memory.free()
}

// Plan is what the sequence was made with.
func (s *Sequence) Plan() Plan { return s.plan }

// Position is that of the next token: how many tokens were fed so far.
func (s *Sequence) Position() int { return s.position }

// Held tells what the sequence holds now.
func (s *Sequence) Held() Held {
	var bytes, slots, absorbed int64
	for i := range s.heads {
		slots += int64(s.heads[i].len)
		bytes += s.plan.bytes(i, s.heads[i].len, s.heads[i].settled)
		absorbed += int64(s.states[i].Absorbed)
	}
	heads := int64(max(1, len(s.heads)))
	return Held{
		Bytes:    bytes,
		Kept:     int(slots / heads),
		Evicted:  int(s.evicted / heads),
		Absorbed: int(absorbed / heads),
	}
}

// Held is what a sequence holds at a moment. Tokens are means over the KV heads.
type Held struct {
	Bytes    int64 // slots in use and states, at most the Plan's bytes
	Kept     int
	Evicted  int
	Absorbed int // of the evicted ones, how many live on in a state
}

// State is what a KV head remembers of its evicted tokens; nil where it has none:
// the cache has no state, or the gate has switched it off.
func (s *Sequence) State(layer, kvHead int) *State {
	state := &s.states[layer*s.plan.Shape.KVHeads+kvHead]
	if state.size() == 0 {
		return nil
	}
	return state
}

// Segment is what a KV head holds in 16 bits: k, v [tokens, headDim]. What Append
// stores is at its end.
func (s *Sequence) Segment(layer, kvHead int) (k, v []uint16) {
	h := s.head(layer, kvHead)
	n := h.loose() * s.plan.Shape.HeadDim
	return h.k[:n], h.v[:n]
}

// Expect asks the memory for what is known of a layer's KV heads: a step reads it once, and by
// the next one the weights have driven it out of the caches.
func (s *Sequence) Expect(layer int) {
	from, to := layer*s.plan.Shape.KVHeads, (layer+1)*s.plan.Shape.KVHeads
	cpu.Ask(s.heads[from:to])
	cpu.Ask(s.states[from:to])
}

// Grown is the Segment as it will be when n more tokens, which fit, are appended.
func (s *Sequence) Grown(layer, kvHead, n int) (k, v []uint16) {
	h := s.head(layer, kvHead)
	n = (h.loose() + n) * s.plan.Shape.HeadDim
	return h.k[:n], h.v[:n]
}

// Packed is what a KV head holds beside its Segment, all of it older than a block that
// is being fed.
func (s *Sequence) Packed(layer, kvHead int) cpu.PackedSlots {
	h := s.head(layer, kvHead)
	if h.settled == 0 {
		return cpu.PackedSlots{}
	}
	p := cpu.PackedSlots{Packing: s.packing, Groups: h.groups[:h.settled*s.plan.groupWords()]}
	if len(h.channels) > 0 {
		p.Channels = h.channels[:s.packing.Keys]
	}
	return p
}

// Len is how many tokens a KV head holds.
func (s *Sequence) Len(layer, kvHead int) int { return s.head(layer, kvHead).len }

// Loose is how many of them are in 16 bits: the Segment's.
func (s *Sequence) Loose(layer, kvHead int) int { return s.head(layer, kvHead).loose() }

// Settled are the notes of a ledger's packed groups, in the order of their tokens: two numbers each, the lower half first.
func (s *Sequence) Settled(layer, kvHead int) []uint16 {
	h := s.head(layer, kvHead)
	return h.groups[:h.settled*s.plan.groupWords()]
}

// Positions are the original positions of what a KV head holds, rising.
func (s *Sequence) Positions(layer, kvHead int) []int32 {
	h := s.head(layer, kvHead)
	return h.positions[:h.len]
}

// Fits tells whether every KV head of the layer has n free slots in 16 bits.
func (s *Sequence) Fits(layer, n int) bool {
	for kvHead := range s.plan.Shape.KVHeads {
		if h := s.head(layer, kvHead); h.loose()+n > s.looseSlots(h) || h.len+n > len(h.positions) {
			return false
		}
	}
	return true
}

// MakeRoom readies the layer for a block of n tokens: where there are no slots for it,
// KV heads that exceed their budget are cut down to it; and where a few tokens only
// want room in 16 bits, older ones are packed. A larger block is attended first.
func (s *Sequence) MakeRoom(layer, n int) {
	if s.decides(layer, n) {
		s.evict(layer, nil, nil, nil, 0, n)
	}
	if !s.plan.packs() || n > GroupTokens {
		return
	}
	for kvHead := range s.plan.Shape.KVHeads {
		i := layer*s.plan.Shape.KVHeads + kvHead
		for h := &s.heads[i]; h.loose()+n > s.looseSlots(h) && h.len+n <= len(h.positions); {
			s.settle(i)
		}
	}
}

// Changes tells whether MakeRoom would ask the policy, or pack.
func (s *Sequence) Changes(layer, n int) bool {
	if s.decides(layer, n) {
		return true
	}
	for kvHead := 0; s.plan.packs() && n <= GroupTokens && kvHead < s.plan.Shape.KVHeads; kvHead++ {
		if h := s.head(layer, kvHead); h.loose()+n > s.looseSlots(h) {
			return true
		}
	}
	return false
}

// decides tells whether the policy is to be asked before a block comes.
func (s *Sequence) decides(layer, n int) bool {
	return s.exceeds(layer) && !s.holds(layer, n) || s.due(layer)
}

// holds tells whether every KV head of the layer has n free slots of either kind.
func (s *Sequence) holds(layer, n int) bool {
	for kvHead := range s.plan.Shape.KVHeads {
		if h := s.head(layer, kvHead); h.len+n > len(h.positions) {
			return false
		}
	}
	return true
}

// exceeds tells whether there may be something to evict of what the layer holds: a Scorer
// keeps as much as the budget has room for.
func (s *Sequence) exceeds(layer int) bool {
	if _, ok := s.policy.(Decider); ok {
		return true
	}
	for kvHead := range s.plan.Shape.KVHeads {
		if i := layer*s.plan.Shape.KVHeads + kvHead; s.heads[i].len > s.plan.Keeps[i] {
			return true
		}
	}
	return false
}

// due tells whether the policy wants to decide although all fits.
func (s *Sequence) due(layer int) bool {
	p, ok := s.policy.(Decider)
	return ok && p.Eager() && s.position-s.head(layer, 0).decided >= s.plan.Interval
}

// Append stores a block that Fits: k, v [n, headDim] of one KV head. Different KV heads
// may be appended to at the same time.
func (s *Sequence) Append(layer, kvHead int, k, v []uint16) {
	h := s.head(layer, kvHead)
	dim := s.plan.Shape.HeadDim
	n := len(k) / dim
	if h.len+n > len(h.positions) || h.loose()+n > s.looseSlots(h) {
		panic(fmt.Sprintf("cache: %d tokens appended to %d of %d slots", n, h.len, len(h.positions)))
	}
	copy(h.k[h.loose()*dim:], k)
	copy(h.v[h.loose()*dim:], v)
	for i := range n {
		h.positions[h.len+i] = int32(s.position + i)
	}
	clear(h.attention[h.len*s.width : (h.len+n)*s.width])
	h.len += n
}

// Insert stores a block that does not fit, after it was attended: all of it where there
// are slots, and otherwise, of what the layer holds and the block, the budget. k, v [kvHeads, n, headDim];
// columns [kvHeads, group, n] is what Observed asks for over the block's own
// tokens, nil where no row was observed.
func (s *Sequence) Insert(layer int, k, v []uint16, columns []float32) {
	n := len(k) / (s.plan.Shape.KVHeads * s.plan.Shape.HeadDim)
	s.evict(layer, k, v, columns, n, n)
}

// Advance ends a block of n tokens, when all layers have stored it; or, taken back later,
// for one layer that goes on to the next block.
func (s *Sequence) Advance(n int) { s.position += n }

// looseSlots is how many tokens a KV head has room for in 16 bits.
func (s *Sequence) looseSlots(h *head) int { return len(h.k) / s.plan.Shape.HeadDim }

func (s *Sequence) head(layer, kvHead int) *head {
	return &s.heads[layer*s.plan.Shape.KVHeads+kvHead]
}
