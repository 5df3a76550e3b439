package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"

	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/cuda/device"
)

// prunedCase are groups of two KV heads in layer 1 of 2, of which there are no others.
type prunedCase struct {
	*rig
	h            Heads
	p            Pruned
	counts       groupCounts
	channels     [][]uint16       // [kvHeads] that keys keep
	table        device.Pointer   // of where groups are
	first        []device.Pointer // [kvHeads] groups
	keys, values [][]float32      // [kvHeads][tokens, dim] that they stand for
	bits         [][]uint16       // [kvHeads·groups] as they lie in memory
}

func (c *prunedCase) kivi() KIVI { return KIVI{Bits: c.p.Bits, Pruned: true} }

func (r *rig) prunedGroups(h Heads, p Pruned, counts ...int) *prunedCase {
	c := &prunedCase{rig: r, h: h, p: p, counts: counts, keys: make([][]float32, h.KVHeads), values: make([][]float32, h.KVHeads)}
	begin := make([]int64, 2*h.KVHeads)
	for kv, n := range counts {
		kept := r.random.Perm(h.Dim)[:p.Channels]
		slices.Sort(kept)
		channels := make([]uint16, p.Channels)
		for i, channel := range kept {
			channels[i] = uint16(channel)
		}
		c.channels = append(c.channels, channels)
		head := slices.Repeat([]uint16{0x7fc0}, (PrunedHead(h.Dim)+(n+1)*p.GroupBytes(h.Dim))/2)
		for i, x := range p.Header(h.Dim) {
			head[2*i], head[2*i+1] = uint16(x), uint16(x>>16)
		}
		copy(head[8:], channels)
		at := put(r, head)
		c.first = append(c.first, at+device.Pointer(PrunedHead(h.Dim)))
		begin[h.KVHeads+kv] = int64(c.first[kv])
	}
	c.table = put(r, begin)
	var memory []uint16
	var jobs []PackJob
	var rows []PackRow
	c.counts.each(func(kv, number, i int) {
		keyBits, keys := brains(r.normal(GroupTokens*h.Dim, 1))
		valueBits, values := brains(r.normal(GroupTokens*h.Dim, 1))
		packing := cpu.Packing{Bits: p.Bits, Keys: p.Channels, Values: h.Dim}
		slots := cpu.PackedSlots{Packing: packing, Groups: make([]uint16, packing.Words()), Channels: c.channels[kv]}
		var kept []float32
		for t := range GroupTokens {
			for _, channel := range c.channels[kv] {
				kept = append(kept, keys[t*h.Dim+int(channel)])
			}
		}
		packing.Pack(slots.Groups, kept, values)
		slots.Unpack(keys, values, 0)
		c.bits, c.keys[kv], c.values[kv] = append(c.bits, c.asOnCard(slots.Groups)), append(c.keys[kv], keys...), append(c.values[kv], values...)
		jobs = append(jobs, PackJob{Table: int64(c.table), KVHead: int64(kv), Group: int64(number), Other: int64(len(rows))})
		first := len(memory)/h.Dim - 10 // in layer 0
		for t := range GroupTokens {
			rows = append(rows, PackRow{Key: int64(first + t), Value: int64(first + GroupTokens + t), Layer: 10})
		}
		memory = append(append(memory, keyBits...), valueBits...)
	})
	r.must(r.Pack(r.s, h, c.kivi(), put(r, memory), put(r, jobs), put(r, rows), len(jobs), 1))
	return c
}

// asOnCard is a group of the CPU as it lies on a card.
func (c *prunedCase) asOnCard(group []uint16) []uint16 {
	bits, dim, rows := c.p.Bits, c.h.Dim, c.p.filled()
	out := slices.Repeat([]byte{0xc0, 0x7f}, c.p.GroupBytes(dim)/2)
	each := 16 / bits // rows of a line
	code := func(words []uint16, row, lane int) uint16 {
		offset := bits * (row%each*2 + lane/16)
		return words[row/each*32+lane%16*2+offset/16] >> (offset % 16) & (1<<bits - 1)
	}
	scaleWords := 2
	if bits == 16 {
		scaleWords = 0
	} else {
		clear(out[:(rows+dim)*(4*bits+4)])
	}
	keyCodes := rows * 2 * bits // words
	values := group[keyCodes+scaleWords*rows:]
	for t := range GroupTokens {
		for channel := range c.p.Channels {
			if x := code(group, channel, t); bits == 16 {
				binary.LittleEndian.PutUint16(out[64*channel+2*t:], x)
			} else { // in the order of src/pruned.py
				n := 8 / bits
				offset := channel%n/2*8 + t%8/2*bits
				out[channel/n*32+(t/8*2+t%2)*4+channel%2*2+offset/8] |= byte(x << (offset % 8))
			}
		}
		for d := range dim {
			if x := code(values, d/32*32+t, d%32); bits == 16 {
				binary.LittleEndian.PutUint16(out[64*rows+2*(t*dim+d):], x)
			} else {
				setPacked(out[4*bits*rows:], bits, d/8*4+t%8/2, d%8, t/8, t%2, byte(x))
			}
		}
	}
	at := (rows + dim) * 4 * bits
	for i := range scaleWords * rows {
		if i%rows < c.p.Channels { // others are 0
			binary.LittleEndian.PutUint16(out[at+2*i:], group[keyCodes+i])
		}
	}
	at += 2 * scaleWords * rows
	for i := range scaleWords * dim {
		binary.LittleEndian.PutUint16(out[at+2*i:], values[dim*2*bits+i])
	}
	words := make([]uint16, len(out)/2)
	for i := range words {
		words[i] = binary.LittleEndian.Uint16(out[2*i:])
	}
	return words
}

// Groups hold the channels that keys keep, come back with zeros for the others, and are moved as they are.
func TestPrune(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for i, dim := range []int{64, 128, 256} {
			for j, bits := range []int{2, 4, 16} {
				channels := [][3]int{{39, 6, 64}, {77, 127, 13}, {25, 154, 192}}[i][j]
				r.in(t).checkPrune(Heads{Heads: 6, KVHeads: 2, Dim: dim}, Pruned{Bits: bits, Channels: channels, Rank: 3 * i})
			}
		}
	})
}

func (r *rig) checkPrune(h Heads, p Pruned) {
	c := r.prunedGroups(h, p, 2, 1)
	size := p.GroupBytes(h.Dim) / 2
	c.counts.each(func(kv, number, i int) {
		if got := get[uint16](r, c.first[kv]+device.Pointer(2*number*size), size); !slices.Equal(got, c.bits[i]) {
			r.t.Fatal(fmt.Sprintf("%+v, %+v: group %d of head %d is another", h, p, number, kv))
		}
	})
	rows := put(r, slices.Repeat([]uint16{0x7fc0}, 4*GroupTokens*h.Dim))
	r.must(r.Unpack(r.s, h, c.kivi(), rows, put(r, []PackJob{{int64(c.table), 1, 0, 0}, {int64(c.table), 0, 1, 2 * GroupTokens}}), 2, 1))
	group := GroupTokens * h.Dim
	var want []float64
	for _, x := range slices.Concat(c.keys[1][:group], c.values[1][:group], c.keys[0][group:], c.values[0][group:]) {
		want = append(want, float64(x))
	}
	near(r.t, fmt.Sprintf("%+v, %+v unpacked", h, p), fromBrains(get[uint16](r, rows, len(want))), want, roundedTo)
	r.must(r.Shift(r.s, h, c.kivi(), put(r, []PackJob{{int64(c.table), 0, 1, 0}}), 1, 1))
	if got := get[uint16](r, c.first[0], 3*size); !slices.Equal(got[:2*size], slices.Concat(c.bits[1], c.bits[1])) || got[2*size] != 0x7fc0 {
		r.t.Errorf("%+v, %+v: another group is moved", h, p)
	}
}

// Attention over groups of pruned keys is that over keys whose lost channels are zero, and so is what their tokens get of it.
func TestAttendPruned(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for i, h := range append(headShapes, Heads{Heads: 24, KVHeads: 2, Dim: 64}) { // more query heads than other tiles have
			channels := []int{h.Dim - h.Dim*40/100, h.Dim / 10, h.Dim - 1}[i%3]
			for j, bits := range []int{16, 2, 4} {
				if j == 0 || i%2 == j-1 {
					r.in(t).checkAttendPruned(h, Pruned{Bits: bits, Channels: channels})
				}
			}
		}
	})
}

func (r *rig) checkAttendPruned(h Heads, p Pruned) {
	c := r.prunedGroups(h, p, 3, 1)
	over := &overGroups{rig: r, h: h, p: c.kivi(), counts: c.counts, table: c.table, seen: func(kv, from, to int) (keys, values []float32) {
		group := GroupTokens * h.Dim
		from, to = min(from, c.counts[kv])*group, min(to, c.counts[kv])*group
		return c.keys[kv][min(from, to):to], c.values[kv][min(from, to):to]
	}}
	over.check(fmt.Sprintf("%+v, %+v", h, p))
}

// The mean squares of queries are those of the CPU to the bit, and the squares of keys are added up in float64.
func TestSquares(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, h := range headShapes {
			r.in(t).checkSquares(h)
		}
	})
}

func (r *rig) checkSquares(h Heads) {
	const rows, layer = 40, 1
	queryBits, q := brains(r.normal(rows*h.Heads*h.Dim, 3))
	asks := []Ask{{First: 1, Rows: 32, Squares: 5, Share: 1}, {First: 39, Rows: 1, Squares: int64(5 + 2*h.KVHeads*h.Dim), Share: 1.0 / 31}}
	known := r.normal(5+2*len(asks)*h.KVHeads*h.Dim, 2)
	p := put(r, known)
	for i := range asks {
		asks[i].Squares += int64(p / 4)
	}
	r.must(r.Ask(r.s, h, put(r, queryBits), put(r, asks), len(asks), layer))
	for _, a := range asks {
		for kv := range h.KVHeads {
			at := known[int(a.Squares-int64(p/4))+(layer*h.KVHeads+kv)*h.Dim:][:h.Dim]
			for d, old := range at {
				sum := float32(0)
				for i := range int(a.Rows) * h.Group() {
					x := q[((int(a.First)+i/h.Group())*h.Heads+kv*h.Group()+i%h.Group())*h.Dim+d]
					sum += x * x / float32(int(a.Rows)*h.Group())
				}
				at[d] += float32((sum - old) * a.Share)
			}
		}
	}
	if got := get[float32](r, p, len(known)); !slices.Equal(got, known) {
		r.t.Errorf("%+v: other mean squares", h)
	}
	keyBits, keys := brains(r.normal(150*h.Dim, 1))
	var list []int64
	jobs := []SquaresJob{{0, 100}, {100, 1}, {101, 0}, {101, 37}}
	for range 138 {
		list = append(list, int64(r.random.IntN(150)))
	}
	out := put(r, slices.Repeat([]float64{math.NaN()}, len(jobs)*h.Dim))
	r.must(r.Squares(r.s, h, put(r, keyBits), put(r, jobs), put(r, list), out, len(jobs)))
	var want []float64
	for _, job := range jobs {
		for d := range h.Dim {
			sum := 0.0
			for _, row := range list[job.First:][:job.Count] {
				sum += float64(keys[int(row)*h.Dim+d]) * float64(keys[int(row)*h.Dim+d])
			}
			want = append(want, sum)
		}
	}
	for i, x := range get[float64](r, out, len(want)) {
		if !(math.Abs(x-want[i]) <= 1e-14*want[i]) {
			r.t.Errorf("%+v: squares of keys add up to %v, want %v", h, x, want[i])
		}
	}
}

// ψ of keys as they are before channels are pruned lies behind their group.
func TestRemember(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, dim := range []int{64, 128, 256} {
			r.in(t).checkRemember(Heads{Heads: 4, KVHeads: 2, Dim: dim}, 33, 5)
		}
	})
}

func (r *rig) checkRemember(h Heads, hidden, rank int) {
	f, c := r.featureMap(h, hidden, rank), r.prunedGroups(h, Pruned{Bits: 4, Channels: h.Dim / 2, Rank: rank}, 2, 1)
	bits, keys := brains(r.normal(50*h.Dim, 1))
	turns := r.normal(9*h.Dim, 1)
	var leaving []Leaving
	for i := range 2 * GroupTokens {
		leaving = append(leaving, Leaving{Key: int64(i*7%40 - 5), Layer: 5, Turned: int64(i % 9)})
	}
	jobs := []PackJob{{int64(c.table), 1, 0, GroupTokens}, {int64(c.table), 0, 1, 0}}
	r.must(r.Remember(r.s, h, r.putMaps(f), put(r, bits), put(r, jobs), put(r, leaving), put(r, turns), len(jobs), 1))
	for _, job := range jobs {
		var want []float64
		psi, key := make([]float32, rank), make([]float32, h.Dim)
		for _, l := range leaving[job.Other:][:GroupTokens] {
			for j := range h.Dim / 2 {
				a, b := float64(keys[int(l.Key+5)*h.Dim+2*j]), float64(keys[int(l.Key+5)*h.Dim+2*j+1])
				c, s := float64(turns[int(l.Turned)*h.Dim+j]), float64(turns[int(l.Turned)*h.Dim+h.Dim/2+j])
				key[2*j], key[2*j+1] = float32(a*c+b*s), float32(b*c-a*s)
			}
			f.Psi(psi, int(job.KVHead), key)
			for _, x := range psi {
				want = append(want, float64(x))
			}
		}
		size := c.p.GroupBytes(h.Dim) / 2
		group := get[uint16](r, c.first[job.KVHead]+device.Pointer(2*int(job.Group)*size), size)
		near(r.t, fmt.Sprintf("ψ of %+v", h), fromBrains(group[size-GroupTokens*rank:]), want, roundedTo)
		i := 2
		if job.KVHead == 0 {
			i = int(job.Group)
		}
		if !slices.Equal(group[:size-GroupTokens*rank], c.bits[i][:size-GroupTokens*rank]) {
			r.t.Errorf("%+v: keys or values of the group are others now", h)
		}
	}
}
