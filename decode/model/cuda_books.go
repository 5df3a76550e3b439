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
	cuts []cut // of the KV heads of the layer that evicts; of one alone where all hold the same
	turn int   // by how many positions the eviction turns the sinks
	used []bool
	k, v []uint16
}

// cut is what an eviction does to a KV head.
type cut struct {
	moved  []shift // tokens that come to another slot
	stored []shift // tokens of the block, by their rows, that come to a slot
	gone   []gone
}

type shift struct{ from, to int }

// gone is a token that has left: where it lies still, and its position.
type gone struct {
	slot     int
	own      bool // slot is a row of the block
	position int32
}

// ownRow marks the number of a row of the block that is not stored yet.
const ownRow = 1 << 31

func newBooks(p cache.Plan) (*books, error) {
	ledger := p.Ledger()
	b := &books{cuts: make([]cut, ledger.Shape.KVHeads)}
	var err error
	b.Sequence, err = cache.NewSequence(ledger, cache.Handlers{Absorb: b.leave, Turn: func(_, _ []uint16, by int) { b.turn = by }}, &cache.Scratch{})
	return b, err
}

func (b *books) leave(_ *cache.State, _, head int, k, v, _ []uint16, positions []int32) {
	for i, position := range positions {
		n := joined(k[i], v[i])
		b.cuts[head].gone = append(b.cuts[head].gone, gone{int(n &^ ownRow), n&ownRow != 0, position})
	}
}

func joined(low, high uint16) uint32 { return uint32(low) | uint32(high)<<16 }

func halves(n uint32) (low, high uint16) { return uint16(n), uint16(n >> 16) }

// makeRoom is MakeRoom; it tells what that does to the layer's KV heads.
func (b *books) makeRoom(layer, n int) []cut {
	return b.cut(layer, func() { b.MakeRoom(layer, n) })
}

// insert is Insert of a block of n rows.
func (b *books) insert(layer, n int, columns []float32) []cut {
	b.number(n*len(b.cuts), func(i int) uint32 { return ownRow | uint32(i%n) })
	return b.cut(layer, func() { b.Insert(layer, b.k, b.v, columns) })
}

// append is Append of a block that fits, to the next slots of every KV head.
func (b *books) append(layer, n int) {
	first := b.Len(layer, 0)
	b.number(n, func(i int) uint32 { return uint32(first + i) })
	for head := range b.cuts {
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
	for i := range b.cuts {
		c := &b.cuts[i]
		c.moved, c.stored, c.gone = c.moved[:0], c.stored[:0], c.gone[:0]
	}
	b.turn = 0
	evict()
	for head := range b.cuts {
		b.tidy(layer, head)
	}
	return b.cuts
}

func (b *books) tidy(layer, head int) {
	c := &b.cuts[head]
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
}

// observe gives the policy what the slots of the layer's KV heads got of attention since the
// last decision: sums [kvHeads, room], of which the first slots that are held count.
func (b *books) observe(layer, room int, sums []float32) {
	for head := range b.cuts {
		k, v := b.Segment(layer, head)
		columns := make([]float32, len(k))
		for i := range k {
			columns[i] = sums[head*room+int(joined(k[i], v[i]))]
		}
		b.Observe(layer, head, 0, columns)
	}
}
