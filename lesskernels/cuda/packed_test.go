package cuda

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/cuda/device"
)

// packedCase are groups of two KV heads in layer 1 of 2, packed by the card.
type packedCase struct {
	*rig
	h      Heads
	p      KIVI
	counts []int          // groups of KV heads
	table  device.Pointer // of where they are
	size   int            // bytes of all
	at     device.Pointer // of the first
	want   [][]uint16     // [kvHeads·groups] as the CPU packs them
}

// each tells of every group.
func (c *packedCase) each(f func(kv, number, i int)) {
	i := 0
	for kv, n := range c.counts {
		for number := range n {
			f(kv, number, i)
			i++
		}
	}
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
	c.each(func(kv, number, i int) {
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
	set := func(from, t, d int, x byte) { out[from+t*dim*bits/8+d*bits/8] |= x << (d * bits % 8) }
	keyWords := dim * 2 * bits
	values := group[keyWords+2*dim:]
	for t := range GroupTokens {
		for d := range dim {
			set(0, t, d, code(group, d, t))
			set(codes, t, d, code(values, d/32*32+t, d%32))
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
		for i, h := range headShapes {
			for _, bits := range []int{2, 4} {
				if i%2 == 0 || bits == 4 {
					r.in(t).checkAttendPacked(h, bits)
				}
			}
		}
	})
}

func (r *rig) checkAttendPacked(h Heads, bits int) {
	const splits, span = 2, 2
	c := r.packedGroups(h, bits, 3, 1)
	size := h.PackedTileQueries()
	rows := size + 4
	queryBits, q := brains(r.normal(rows*h.Heads*h.Dim, 1))
	tiles := []Tile{{0, int32(size)}, {int32(rows - 1), 1}}
	for at := size; at < rows-1; at++ {
		tiles = append(tiles, Tile{int32(at), 1})
	}
	var seen []int32
	for range rows - 1 {
		seen = append(seen, 3, 1)
	}
	seen = append(seen, 2, 0)
	a := Attention{Heads: h, Scale: float32(1 / math.Sqrt(float64(h.Dim))), Layer: 1, Rows: rows, Q: put(r, queryBits), Tiles: put(r, tiles),
		Parts: put(r, nothing(splits*rows*h.Heads*h.Dim)), LSE: put(r, nothing(splits*rows*h.Heads))}
	groups, packed := put(r, slices.Repeat([]int64{int64(c.table)}, len(tiles))), put(r, seen)
	r.must(r.AttendPacked(r.s, &a, c.p, groups, packed, len(tiles), splits, span))
	out, lse := get[float32](r, a.Parts, splits*rows*h.Heads*h.Dim), get[float32](r, a.LSE, splits*rows*h.Heads)
	var want, wantLSE []float64
	var finite []float32
	for i, x := range lse {
		split, row, kv := i/h.Heads/rows, i/h.Heads%rows, i%h.Heads/h.Group()
		keys, values := c.seen(kv, split*span, min((split+1)*span, int(seen[row*h.KVHeads+kv])))
		p, _ := lesskernels.Attend(q[(row*h.Heads+i%h.Heads)*h.Dim:][:h.Dim], keys, values, float64(a.Scale))
		for _, x := range p.Out {
			want = append(want, float64(x))
		}
		if len(keys) > 0 {
			finite, wantLSE = append(finite, x), append(wantLSE, float64(p.LSE))
		} else if !math.IsInf(float64(x), -1) {
			r.t.Errorf("%+v: the log-sum-exp of nothing is %v", h, x)
		}
	}
	what := fmt.Sprintf("%+v, %d bits", h, bits)
	near(r.t, what, out, want, attentionTolerance)
	near(r.t, what+", log-sum-exps", finite, wantLSE, lseTolerance)
	for _, sight := range []Sight{Few, Last} {
		c.checkObserved(&a, sight, q, groups, packed)
	}
}

// seen are keys and values of groups from…to of a KV head.
func (c *packedCase) seen(kv, from, to int) (keys, values []float32) {
	c.each(func(k, number, i int) {
		if k == kv && number >= from && number < to {
			key, value := c.standsFor(i)
			keys, values = append(keys, key...), append(values, value...)
		}
	})
	return keys, values
}

// checkObserved: what the tokens of groups get of all rows but the last, beside what those of the first have.
func (c *packedCase) checkObserved(a *Attention, what Sight, q []float32, groups, packed device.Pointer) {
	h, r, rows := a.Heads, c.rig, a.Rows-1
	const room = 5 * GroupTokens
	sums := r.normal(2*h.KVHeads*room, 1)
	want := make([]float64, len(sums))
	for i, x := range sums {
		want[i] = float64(x)
	}
	positions := make([]int32, a.Rows)
	for row := range positions {
		positions[row] = int32(40 + 11*row)
	}
	for kv := range h.KVHeads {
		keys, _ := c.seen(kv, 0, c.counts[kv])
		at := want[(h.KVHeads+kv)*room:][:len(keys)/h.Dim]
		clear(at[min(GroupTokens, len(at)):])
		for slot := range at {
			if what == Last {
				at[slot] = max(at[slot], 0)
			}
		}
		for i := range rows * h.Group() {
			row := i / h.Group()
			_, weights := lesskernels.Attend(q[(row*h.Heads+kv*h.Group()+i%h.Group())*h.Dim:][:h.Dim], keys, keys, float64(a.Scale))
			for slot, w := range weights {
				if step := float64(positions[row] + 1); what == Last && w >= 1/step {
					at[slot] = max(at[slot], step)
				} else if what != Last {
					at[slot] += w
				}
			}
		}
	}
	p := put(r, sums)
	watch := []Watch{{First: 0, Rows: int64(rows), Sums: int64(p / 4), SumsLayer: int64(h.KVHeads * room), SumsHead: room, Known: 1}}
	r.must(r.ObservePacked(r.s, a, c.p, what, put(r, watch), groups, packed, 1, 2, 4, put(r, positions)))
	got := get[float32](r, p, len(sums))
	near(r.t, fmt.Sprintf("what tokens of %+v in %d bits get, %s", h, c.p.Bits, what), got, want, 1e-5)
}
