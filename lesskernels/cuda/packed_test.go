package cuda

import (
	"fmt"
	"slices"
	"testing"

	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/cuda/device"
)

// packedCase are groups of two KV heads in layer 1 of 2, packed by the card.
type packedCase struct {
	*rig
	h      Heads
	p      KIVI
	counts groupCounts
	table  device.Pointer // of where they are
	size   int            // bytes of all
	at     device.Pointer // of the first
	want   [][]uint16     // [kvHeads·groups] as the CPU packs them
}

func (r *rig) packedGroups(h Heads, bits int, counts ...int) *packedCase {
	c := &packedCase{rig: r, h: h, p: KIVI{Bits: bits}, counts: counts}
	total := 0
	for _, n := range counts {
		total += n
	}
	c.size = total * c.p.GroupBytes(h.Dim)
	c.at = put(r, make([]byte, c.size))
	begin := make([]int64, 2*h.KVHeads)
	tokens := total * GroupTokens
	keys, values := r.normal(tokens*h.Dim, 1), r.normal(tokens*h.Dim, 1)
	for i := range keys {
		keys[i] = keys[i]*float32(1+i%h.Dim%7) + float32(i%h.Dim%5)
	}
	for i := range GroupTokens * h.Dim { // keys that are all the same, and values of one number
		keys[i] = keys[i%h.Dim]
	}
	for i := range h.Dim {
		values[3*h.Dim+i], values[4*h.Dim+i] = 0, -1.5
	}
	keyBits, keys := brains(keys)
	valueBits, values := brains(values)
	var memory []uint16
	for range 40 * h.Dim { // of layer 0 none is read
		memory = append(memory, 0x7fc0)
	}
	memory = append(append(memory, keyBits...), valueBits...)
	var jobs []PackJob
	var rows []PackRow
	packing := cpu.Packing{Bits: bits, Keys: h.Dim, Values: h.Dim}
	c.counts.each(func(kv, number, i int) {
		if number == 0 {
			begin[h.KVHeads+kv] = int64(c.at) + int64(i*c.p.GroupBytes(h.Dim))
		}
		jobs = append(jobs, PackJob{KVHead: int64(kv), Group: int64(number), Other: int64(len(rows))})
		var k, v []float32
		for t := range GroupTokens {
			row := i*GroupTokens + (t*7+i)%GroupTokens // in no order
			rows = append(rows, PackRow{Key: int64(row + 30), Value: int64(row + tokens + 30), Layer: 10})
			k, v = append(k, keys[row*h.Dim:][:h.Dim]...), append(v, values[row*h.Dim:][:h.Dim]...)
		}
		group := make([]uint16, packing.Words())
		packing.Pack(group, k, v)
		c.want = append(c.want, group)
	})
	c.table = put(r, begin)
	for i := range jobs {
		jobs[i].Table = int64(c.table)
	}
	r.must(r.Pack(r.s, h, c.p, put(r, memory), put(r, jobs), put(r, rows), len(jobs), 1))
	return c
}

// setPacked puts a code where src/packed.py tells.
func setPacked(codes []byte, bits, pair, g, t, half int, x byte) {
	each := 16 / bits
	word, offset := pair/each, pair%each*bits
	codes[word/4*512+(4*g+t)*16+word%4*4+half*2+offset/8] |= x << (offset % 8)
}

// asOnCard is a group of the CPU as it lies on a card.
func (c *packedCase) asOnCard(group []uint16) []byte {
	bits, dim := c.p.Bits, c.h.Dim
	each := 16 / bits // rows of a line
	code := func(words []uint16, row, lane int) byte {
		offset := bits * (row%each*2 + lane/16)
		return byte(words[row/each*32+lane%16*2+offset/16] >> (offset % 16) & (1<<bits - 1))
	}
	out := make([]byte, c.p.GroupBytes(dim))
	codes := GroupTokens * dim * bits / 8
	keyWords := dim * 2 * bits
	values := group[keyWords+2*dim:]
	for t := range GroupTokens {
		for d := range dim {
			lane, channel := d/(dim/4), d%(dim/4)
			setPacked(out, bits, t%8/2*dim/8+channel/2, t/8*2+t%2, lane, channel%2, code(group, d, t))
			setPacked(out[codes:], bits, d/8*4+t%8/2, d%8, t/8, t%2, code(values, d/32*32+t, d%32))
		}
	}
	at := 2 * codes
	for _, scales := range [][]uint16{group[keyWords:][:2*dim], values[keyWords:][:2*dim]} {
		for _, x := range scales {
			out[at], out[at+1] = byte(x), byte(x>>8)
			at += 2
		}
	}
	return out
}

// Groups are packed as on the CPU, to the bit; unpacked to what they stand for; and moved as they are.
func TestPack(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, dim := range []int{64, 128, 256} {
			for _, bits := range []int{2, 4} {
				r.in(t).checkPack(Heads{Heads: 6, KVHeads: 2, Dim: dim}, bits)
			}
		}
	})
}

func (r *rig) checkPack(h Heads, bits int) {
	c := r.packedGroups(h, bits, 2, 1)
	var want []byte
	for _, group := range c.want {
		want = append(want, c.asOnCard(group)...)
	}
	got := get[byte](r, c.at, c.size)
	for i, x := range got {
		if x != want[i] {
			r.t.Fatal(fmt.Sprintf("%+v in %d bits: byte %d of %d is %#x, want %#x", h, bits, i, c.p.GroupBytes(h.Dim), x, want[i]))
		}
	}
	rows := put(r, make([]uint16, 4*GroupTokens*h.Dim))
	jobs := []PackJob{{int64(c.table), 1, 0, 0}, {int64(c.table), 0, 1, 2 * GroupTokens}}
	r.must(r.Unpack(r.s, h, c.p, rows, put(r, jobs), len(jobs), 1))
	var whole []float64
	for _, i := range []int{2, 1} {
		keys, values := c.standsFor(i)
		for _, x := range append(keys, values...) {
			whole = append(whole, float64(x))
		}
	}
	near(r.t, fmt.Sprintf("%+v, %d bits unpacked", h, bits), fromBrains(get[uint16](r, rows, len(whole))), whole, roundedTo)
	r.must(r.Shift(r.s, h, c.p, put(r, []PackJob{{int64(c.table), 0, 1, 0}}), 1, 1))
	size := c.p.GroupBytes(h.Dim)
	if !slices.Equal(get[byte](r, c.at, c.size), slices.Concat(want[size:2*size], want[size:])) {
		r.t.Errorf("%+v, %d bits: another group is moved", h, bits)
	}
}

// standsFor are the keys and values of group i.
func (c *packedCase) standsFor(i int) (keys, values []float32) {
	slots := cpu.PackedSlots{Packing: cpu.Packing{Bits: c.p.Bits, Keys: c.h.Dim, Values: c.h.Dim}, Groups: c.want[i]}
	keys, values = make([]float32, GroupTokens*c.h.Dim), make([]float32, GroupTokens*c.h.Dim)
	slots.Unpack(keys, values, 0)
	return keys, values
}

// Attention over packed groups is that over what they stand for, and so is what their tokens get of it.
func TestAttendPacked(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for i, h := range append(headShapes, Heads{Heads: 24, KVHeads: 2, Dim: 64}) { // more query heads than a program takes
			for _, bits := range []int{2, 4} {
				if i%2 == 0 || bits == 4 {
					r.in(t).checkAttendPacked(h, bits)
				}
			}
		}
	})
}

func (r *rig) checkAttendPacked(h Heads, bits int) {
	count := 3
	if h.Dim == 128 && h.Group() == 3 {
		count = 6 // more in a split than warps, and no multiple
	} else if h.Dim == 64 && h.Group() == 12 {
		count = observedGroups + 1 // more than a program tells of
	}
	c := r.packedGroups(h, bits, count, 1)
	over := &overGroups{rig: r, h: h, p: c.p, counts: c.counts, table: c.table, seen: c.seen}
	over.check(fmt.Sprintf("%+v, %d bits", h, bits))
}

// seen are keys and values of groups from…to of a KV head.
func (c *packedCase) seen(kv, from, to int) (keys, values []float32) {
	c.counts.each(func(k, number, i int) {
		if k == kv && number >= from && number < to {
			key, value := c.standsFor(i)
			keys, values = append(keys, key...), append(values, value...)
		}
	})
	return keys, values
}
