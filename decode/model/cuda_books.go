package model

import (
	"slices"

	"lessrag/decode/cache"
)

// books know which token lies in which slot of a sequence on a device, and decide as the
// CPU does, by the same policies: they are a sequence whose keys and values are the low and the high halves of
// the numbers of slots. Attention does not mind the order of slots, so what leaves is replaced where it
// lay, and what a KV head holds is always its first slots.
type books struct {
	*cache.Sequence
	heads  int   // KV heads of a layer; one alone where all hold the same
	cuts   []cut // [layers, heads] what the last eviction in a layer has done
	last   *cut  // whose tokens leave
	used   []bool
	prunes bool   // packed keys lose channels
	pruned []bool // [layers, heads] which ones has been decided
	k, v   []uint16
	old    [][]int32 // [heads] positions before the eviction, where what stays is numbered anew
}

// cut is what an eviction does to a KV head.
type cut struct {
	means  []mean  // before anything moves
	choose []where // tokens by whose keys the channels are chosen that packed keys keep; none: they are not chosen now
	moved  []shift // tokens that come to another slot
	stored []shift // tokens of the block, by their rows, that come to a slot
	gone   []gone
	turned []turned // afterwards
	packs  []pack
	shifts []shift // groups that get another number
}

// pack is a group that is packed from 32 tokens, and its number.
type pack struct {
	of []where
	at []int32 // positions
	to int
}

type shift struct{ from, to int }

// gone is a token that has left: where it lies still, its position, and the one by which its key is turned.
type gone struct {
	at               where
	position, stands int32
}

// turned are tokens, in the order of their positions, whose keys are turned by so many positions.
type turned struct{ from, to, by int }

// mean is a key or a value that is replaced by the mean over those of some tokens, itself among them.
type mean struct {
	of  where
	all []where
	key bool
}

// where is the slot in which a token lies, the row of the block, or its place among those that are packed.
type where uint32

func (w where) row() (row int, own bool) { return int(w &^ ownRow), w&ownRow != 0 }

// ownRow marks the number of a row of the block that is not stored yet.
const ownRow = 1 << 31

// packedToken marks the place of a token among those that are packed: the number of its group times 32, and more.
const packedToken = 1 << 30

// group is the number of the group that a token is packed in, and its place there.
func (w where) group() (number, token int, packed bool) {
	n := int(w &^ packedToken)
	return n / cache.GroupTokens, n % cache.GroupTokens, w&packedToken != 0
}

// newBooks are those of a sequence, by its Plan and the ledger of that.
func newBooks(p, ledger cache.Plan) (*books, error) {
	b := &books{heads: ledger.Shape.KVHeads, cuts: make([]cut, len(ledger.Slots)), prunes: p.Spec.Think != 0, pruned: make([]bool, len(ledger.Slots))}
	if p.Spec.Unlimited() {
		b.old = make([][]int32, b.heads)
	}
	var err error
	b.Sequence, err = cache.NewSequence(ledger, cache.Handlers{Absorb: b.leave, Turn: b.turn, Mean: b.mean, Settle: b.settle}, &cache.Scratch{})
	return b, err
}

func (b *books) leave(_ *cache.State, layer, head int, k, v, _ []uint16, positions []int32) {
	c := &b.of(layer)[head]
	b.last = c
	for i, position := range positions {
		stands := position
		if b.old != nil { // what is held lies at the positions before the block
			first := int32(b.Position() - len(b.old[head]))
			if at, held := slices.BinarySearch(b.old[head], position); held {
				stands = first + int32(at)
			}
		}
		c.gone = append(c.gone, gone{where(joined(k[i], v[i])), position, stands})
	}
}

// settle packs tokens: until the eviction has ended, with a number that no group has.
func (b *books) settle(layer, head int, k, v []uint16, positions []int32) uint32 {
	c, p := &b.of(layer)[head], pack{at: slices.Clone(positions)}
	if i := layer*b.heads + head; b.prunes && !b.pruned[i] {
		b.pruned[i] = true
		keys, values := b.Segment(layer, head) // with those that are packed
		for i := range keys {
			c.choose = append(c.choose, where(joined(keys[i], values[i])))
		}
	}
	for i := range k {
		p.of = append(p.of, where(joined(k[i], v[i])))
	}
	c.packs = append(c.packs, p)
	return packedToken | uint32((b.groups(layer, head)+len(c.packs)-1)*cache.GroupTokens)
}

// groups is how many groups of a KV head there is room for.
func (b *books) groups(layer, head int) int { return b.Plan().Groups[layer*b.heads+head] }

// turn is told of keys of a KV head some of whose tokens have just left: a part of its segment.
func (b *books) turn(k, _ []uint16, by int) {
	from := b.Plan().Loose(0) - cap(k)
	b.last.turned = append(b.last.turned, turned{from, from + len(k), by})
}

// mean is told of tokens that the anchor will stand for: of what is held in 16 bits, followed by the block.
func (b *books) mean(layer, head, anchor int, all []int, key bool) {
	k, v := b.Segment(layer, head)
	at := func(i int) where {
		if i < len(k) {
			return where(joined(k[i], v[i]))
		}
		return where(ownRow | (i - len(k)))
	}
	m := mean{of: at(anchor), key: key}
	for _, i := range all {
		m.all = append(m.all, at(i))
	}
	c := &b.of(layer)[head]
	c.means = append(c.means, m)
}

// layers are those of the books: one alone where all hold the same.
func (b *books) layers() int { return b.Plan().Shape.Layers }

// of are the cuts of a layer's KV heads.
func (b *books) of(layer int) []cut { return b.cuts[layer*b.heads : (layer+1)*b.heads] }

func joined(low, high uint16) uint32 { return uint32(low) | uint32(high)<<16 }

func halves(n uint32) (low, high uint16) { return uint16(n), uint16(n >> 16) }

// makeRoom is MakeRoom; it tells what that does to the layer's KV heads.
func (b *books) makeRoom(layer, n int) []cut {
	return b.cut(layer, func() { b.MakeRoom(layer, n) })
}

// insert is Insert of a block of n rows.
func (b *books) insert(layer, n int, columns []float32) []cut {
	b.number(n*b.heads, func(i int) uint32 { return ownRow | uint32(i%n) })
	return b.cut(layer, func() { b.Insert(layer, b.k, b.v, columns) })
}

// append is Append of a block that fits, to the next slots of every KV head.
func (b *books) append(layer, n int) {
	for head := range b.heads {
		first := b.Loose(layer, head)
		b.number(n, func(i int) uint32 { return uint32(first + i) })
		b.Append(layer, head, b.k, b.v)
	}
}

func (b *books) number(n int, of func(i int) uint32) {
	b.k, b.v = slices.Grow(b.k[:0], n)[:n], slices.Grow(b.v[:0], n)[:n]
	for i := range n {
		b.k[i], b.v[i] = halves(of(i))
	}
}

// cut lets the layer evict, and finds slots among the first for all that stays.
func (b *books) cut(layer int, evict func()) []cut {
	cuts := b.of(layer)
	b.begin(cuts)
	for head := range b.old {
		b.old[head] = append(b.old[head][:0], b.Positions(layer, head)...)
	}
	evict()
	for head := range cuts {
		b.tidy(layer, head)
	}
	return cuts
}

func (b *books) begin(cuts []cut) {
	for i := range cuts {
		c := &cuts[i]
		c.means, c.moved, c.stored, c.gone, c.turned = c.means[:0], c.moved[:0], c.stored[:0], c.gone[:0], c.turned[:0]
		c.packs, c.shifts, c.choose = c.packs[:0], c.shifts[:0], c.choose[:0]
	}
}

// retain is Retain; it tells what that does to all KV heads of all layers.
func (b *books) retain(c cache.Choice) []cut {
	b.begin(b.cuts)
	b.Retain(c)
	for i := range b.cuts {
		b.tidy(i/b.heads, i%b.heads)
	}
	return b.cuts
}

// take is Take, from the books of a staging sequence: its slots are the rows of what is stored and
// of what leaves.
func (b *books) take(staging *books, c cache.Choice) []cut {
	return b.fill(staging, func() { b.Take(staging.Sequence, c) })
}

// distil is Distil, likewise.
func (b *books) distil(desk *books, first int) []cut {
	return b.fill(desk, func() { b.Distil(desk.Sequence, first) })
}

// fill fills books from those of a staging sequence or a desk.
func (b *books) fill(from *books, fill func()) []cut {
	b.begin(b.cuts)
	from.begin(from.cuts)
	for i := range b.cuts {
		if b.prunes {
			b.pruned[i] = true
			for slot := range from.Loose(i/b.heads, i%b.heads) { // in no order
				b.cuts[i].choose = append(b.cuts[i].choose, where(slot|ownRow))
			}
		}
	}
	fill()
	for i := range b.cuts {
		to := &b.cuts[i]
		for _, m := range from.cuts[i].means {
			m.of |= ownRow
			for j := range m.all {
				m.all[j] |= ownRow
			}
			to.means = append(to.means, m)
		}
		for j := range to.gone {
			to.gone[j].at |= ownRow
		}
		for _, p := range to.packs {
			for j := range p.of {
				p.of[j] |= ownRow
			}
		}
		b.tidyGroups(i/b.heads, i%b.heads)
		k, v := b.Segment(i/b.heads, i%b.heads)
		for j := range k {
			to.stored = append(to.stored, shift{int(joined(k[j], v[j])), j})
			k[j], v[j] = halves(uint32(j))
		}
	}
	return b.cuts
}

// slots are those in which a KV head's tokens lie, in the order of their positions.
func (b *books) slots(layer, head int) func(i int) int {
	k, v := b.Segment(layer, head)
	return func(i int) int { return int(joined(k[i], v[i])) }
}

func (b *books) tidy(layer, head int) {
	c := &b.of(layer)[head]
	k, v := b.Segment(layer, head)
	b.used = slices.Grow(b.used[:0], len(k))[:len(k)]
	clear(b.used)
	for i := range k {
		if n := joined(k[i], v[i]); int(n) < len(k) {
			b.used[n] = true
		}
	}
	free := 0
	for i := range k {
		n := joined(k[i], v[i])
		if int(n) < len(k) {
			continue
		}
		for b.used[free] {
			free++
		}
		if n&ownRow != 0 {
			c.stored = append(c.stored, shift{int(n &^ ownRow), free})
		} else {
			c.moved = append(c.moved, shift{int(n), free})
		}
		k[i], v[i] = halves(uint32(free))
		free++
	}
	b.tidyGroups(layer, head)
}

// tidyGroups gives the groups that stay and those that came the first numbers.
func (b *books) tidyGroups(layer, head int) {
	c, notes := &b.of(layer)[head], b.Settled(layer, head)
	n := len(notes) / 2
	number := func(i int) int { number, _, _ := where(joined(notes[2*i], notes[2*i+1])).group(); return number }
	b.used = slices.Grow(b.used[:0], n)[:n]
	clear(b.used)
	for i := range n {
		if number(i) < n {
			b.used[number(i)] = true
		}
	}
	free := 0
	for i := range n {
		old := number(i)
		if old < n {
			continue
		}
		for b.used[free] {
			free++
		}
		if room := b.groups(layer, head); old >= room {
			c.packs[old-room].to = free
		} else {
			c.shifts = append(c.shifts, shift{old, free})
		}
		notes[2*i], notes[2*i+1] = halves(packedToken | uint32(free*cache.GroupTokens))
		free++
	}
}

// observe gives the policy what the slots of the layer's KV heads got of attention since the
// last decision: sums [kvHeads, room], of which the first slots that are held count; and what those that are packed got
// [kvHeads, groups, 32].
func (b *books) observe(layer, room int, sums, packed []float32) {
	for head := range b.heads {
		slot := b.slots(layer, head)
		columns := make([]float32, b.Loose(layer, head))
		for i := range columns {
			columns[i] = sums[head*room+slot(i)]
		}
		b.Observe(layer, head, 0, columns)
		columns = columns[:0]
		for notes := b.Settled(layer, head); len(notes) > 0; notes = notes[2:] {
			number, _, _ := where(joined(notes[0], notes[1])).group()
			columns = append(columns, packed[(head*b.groups(layer, head)+number)*cache.GroupTokens:][:cache.GroupTokens]...)
		}
		if len(columns) > 0 {
			b.ObservePacked(layer, head, 0, columns)
		}
	}
}
