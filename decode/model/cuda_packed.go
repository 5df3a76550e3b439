package model

import (
	"fmt"
	"slices"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// Tokens that are no longer recent lie in groups of codes: see cache/storage.go. What a KV head holds in 16 bits is its first
// slots; what is packed, its first groups.

// packings are the codes that a card knows, and packedSplits is how many spans the groups of a full context are attended in.
var packings = [...]cuda.KIVI{{Bits: 2}, {Bits: 4}, {Bits: 2, Pruned: true}, {Bits: 4, Pruned: true}, {Bits: 16, Pruned: true}}

const packedSplits = 8

// packing is an index of packings, any where a sequence packs nothing.
func (s *cudaSequence) packing() int {
	if i := slices.Index(packings[:], cuda.KIVI{Bits: s.plan.Packing().Bits, Pruned: s.prunes()}); i >= 0 {
		return i
	}
	return 1
}

// groupBytes is what a group of KV head i takes on the device.
func (s *cudaSequence) groupBytes(i int) int64 {
	if s.prunes() {
		return int64(s.pruned(i).GroupBytes(s.plan.Shape.HeadDim))
	}
	return int64(cuda.KIVI{Bits: s.plan.Spec.Bits}.GroupBytes(s.plan.Shape.HeadDim))
}

// headBytes is what stands in front of the groups of a KV head.
func (s *cudaSequence) headBytes() int64 {
	if s.prunes() {
		return int64(cuda.PrunedHead(s.plan.Shape.HeadDim))
	}
	return 0
}

// groupsOf is how many groups a KV head holds.
func (s *cudaSequence) groupsOf(layer, head int) int {
	books := s.books.Sequence
	if !s.each && !s.late {
		books, layer, head = s.pace, 0, 0
	}
	return len(books.Settled(layer, head)) / 2
}

// mostGroups is how many groups one of the KV heads has room for.
func (s *cudaSequence) mostGroups() int {
	most := 0
	for _, n := range s.plan.Groups {
		most = max(most, n)
	}
	return most
}

// groupSpan is how many groups a split takes.
func (c *CUDA) groupSpan() int {
	return c.config.Context/(cache.GroupTokens*packedSplits) + 1
}

// packTables are what some sequences' groups of one packing need in a layer.
type packTables struct {
	packs, shifts, unpacks table[cuda.PackJob]
	remembers              table[cuda.PackJob] // ψ of whose keys will be absorbed
	rows                   table[cuda.PackRow]
}

func (t *packTables) empty() bool { return len(t.packs.values)+len(t.shifts.values) == 0 }

func (t *packTables) stage(u *upload) {
	u.put(cuda.Bytes(t.packs.values), &t.packs.at)
	u.put(cuda.Bytes(t.shifts.values), &t.shifts.at)
	u.put(cuda.Bytes(t.unpacks.values), &t.unpacks.at)
	u.put(cuda.Bytes(t.remembers.values), &t.remembers.at)
	u.put(cuda.Bytes(t.rows.values), &t.rows.at)
}

// pack notes which groups of a KV head are packed and which get other numbers.
func (t *cutTables) pack(s *cudaSequence, layer, head int, slot, row cuda.Place, cut *cut) {
	to := &t.packed[s.packing()]
	remembers := s.prunes() && s.plan.Spec.State == cache.Less && s.pruned(layer*s.backend.heads.KVHeads+head).Rank > 0
	for _, p := range cut.packs {
		if remembers {
			to.remembers.add(cuda.PackJob{Table: s.groups, KVHead: int64(head), Group: int64(p.to), Other: int64(len(t.leaving.values))})
		}
		to.packs.add(cuda.PackJob{Table: s.groups, KVHead: int64(head), Group: int64(p.to), Other: int64(len(to.rows.values))})
		for i, w := range p.of {
			from := slot
			n, own := w.row()
			if own {
				from = row
			}
			from = from.After(n)
			to.rows.add(cuda.PackRow{Key: from.Key, Value: from.Value, Layer: from.Layer})
			if remembers {
				key := cuda.Leaving{Key: from.Key, Layer: from.Layer}
				if at := int(p.at[i]); !s.backend.turned() && at < s.asked { // nobody will ask for others
					key.Turned = int64(at)
				}
				t.leaving.add(key)
			}
		}
	}
	for _, m := range cut.shifts {
		to.shifts.add(cuda.PackJob{Table: s.groups, KVHead: int64(head), Group: int64(m.from), Other: int64(m.to)})
	}
}

// unpack tells where the key and the value of a packed token will lie that a state absorbs. Groups leave as a whole.
func (t *cutTables) unpack(s *cudaSequence, head, number, token int) cuda.Place {
	c, to := s.backend, &t.packed[s.packing()]
	if token == 0 {
		at := 0
		for i := range t.packed {
			at += len(t.packed[i].unpacks.values)
		}
		if at >= unpackedGroups(c.heads.KVHeads, c.limits) {
			c.check(fmt.Errorf("more than %d packed groups leave at a time", at))
			at = 0
		}
		t.unpacked = int64(rowAligned(c.unpacked, c.heads.Dim))/int64(2*c.heads.Dim) + int64(at*2*cache.GroupTokens)
		to.unpacks.add(cuda.PackJob{Table: s.groups, KVHead: int64(head), Group: int64(number), Other: t.unpacked})
	}
	return cuda.Place{Key: t.unpacked + int64(token), Value: t.unpacked + cache.GroupTokens + int64(token)}
}

// unpackedGroups is how many groups can leave at a time: of every KV head, as many as come, and two of each sequence.
func unpackedGroups(kvHeads int, limits Limits) int {
	return kvHeads * (limits.Tokens/cache.GroupTokens + 1 + 2*limits.Sequences)
}

// unpack and pack carry out what tables say of groups in a layer.
func (c *CUDA) unpack(layer int, t *cutTables) {
	for i := range t.packed {
		if n := len(t.packed[i].unpacks.values); n > 0 {
			c.check(c.kernels.Unpack(c.stream, c.heads, packings[i], 0, t.packed[i].unpacks.at, n, layer))
		}
	}
}

func (c *CUDA) pack(layer int, t *cutTables) {
	for i := range t.packed {
		p := &t.packed[i]
		if n := len(p.remembers.values); n > 0 {
			c.check(c.kernels.Remember(c.stream, c.heads, &c.maps.layers[layer], 0, p.remembers.at, t.leaving.at, c.maps.turns, n, layer))
		}
		if n := len(p.packs.values); n > 0 {
			c.check(c.kernels.Pack(c.stream, c.heads, packings[i], 0, p.packs.at, p.rows.at, n, layer))
		}
		if n := len(p.shifts.values); n > 0 {
			c.check(c.kernels.Shift(c.stream, c.heads, packings[i], p.shifts.at, n, layer))
		}
	}
}

// packedTiles are rows that are attended together over packed groups, those of a wave that have none among them.
type packedTiles struct {
	rows   table[cuda.Tile]
	groups table[int64] // addresses of tables

	watched   [2]table[cuda.Watch] // summed up, and the last step
	watchedOf [2]table[int64]
	most      [2]int // groups that one of them sees
}

func (t *packedTiles) stage(u *upload) {
	u.put(cuda.Bytes(t.rows.values), &t.rows.at)
	u.put(cuda.Bytes(t.groups.values), &t.groups.at)
	for i := range t.watched {
		u.put(cuda.Bytes(t.watched[i].values), &t.watched[i].at)
		u.put(cuda.Bytes(t.watchedOf[i].values), &t.watchedOf[i].at)
	}
}

// tilePacked notes a block's rows.
func (c *CUDA) tilePacked(w *wave, block *cudaBlock) {
	s := block.sequence
	to, size := &w.packed[s.packing()], c.heads.PackedTileQueries()
	for at := 0; at < block.n; at += size {
		to.rows.add(cuda.Tile{First: int32(block.first + at), Rows: int32(min(size, block.n-at))})
		to.groups.add(s.groups)
	}
}

// seePacked notes how many groups the rows of a block see.
func (c *CUDA) seePacked(b *cudaBatch, block *cudaBlock) {
	s, kvHeads, most := block.sequence, c.heads.KVHeads, 0
	if s.mostGroups() == 0 {
		return
	}
	for at := range len(b.packed.values) / b.stride * kvHeads {
		layer, head := at/kvHeads, at%kvHeads
		n := s.groupsOf(layer, head)
		for row := range block.n {
			b.packed.values[layer*b.stride+(block.first+row)*kvHeads+head] = int32(n)
		}
		most = max(most, n)
	}
	if s.late && block.waits {
		most = s.mostGroups()
	}
	b.packSplits = max(b.packSplits, (most+c.groupSpan()-1)/c.groupSpan())
}

// watchPacked notes which rows of a block are observed over packed groups.
func (c *CUDA) watchPacked(w *wave, s *cudaSequence, rows cuda.Watch, reduce cache.Reduce, all bool) {
	groups := s.mostGroups()
	if s.plan.Staging || groups == 0 {
		return
	}
	i := 0
	if reduce == cache.Last {
		i = 1
	}
	to := &w.packed[s.packing()]
	rows.Sums, rows.SumsHead, rows.Known = s.packedSums, int64(groups*cache.GroupTokens), 0
	rows.SumsLayer = rows.SumsHead * int64(c.heads.KVHeads)
	if all {
		rows.Known = -1
	}
	to.watched[i].add(rows)
	to.watchedOf[i].add(s.groups)
	to.most[i] = max(to.most[i], groups)
}

// attendPacked computes attention over packed groups, each split of them apart.
func (c *CUDA) attendPacked(b *cudaBatch, layer int, w *wave) {
	for i := range w.packed {
		t := &w.packed[i]
		if n := len(t.rows.values); n > 0 && b.packSplits > 0 {
			a := c.attention(b)
			a.Layer, a.Tiles = layer, t.rows.at
			a.Parts, a.LSE = c.part(b, b.parts()-b.packSplits)
			c.check(c.kernels.AttendPacked(c.stream, &a, packings[i], t.groups.at, c.packedAt(b, layer), n, b.packSplits, c.groupSpan()))
		}
	}
}

// packedAt is how many groups rows see in a layer.
func (c *CUDA) packedAt(b *cudaBatch, layer int) device.Pointer {
	if !b.layered {
		layer = 0
	}
	return b.packed.at + device.Pointer(4*layer*b.stride)
}

// observePacked tells packed tokens what they get of the attention of a wave's blocks that are watched.
func (c *CUDA) observePacked(b *cudaBatch, layer int, w *wave) {
	for i := range w.packed {
		for j, what := range []cuda.Sight{cuda.Few, cuda.Last} {
			t := &w.packed[i]
			if n := len(t.watched[j].values); n > 0 && b.packSplits > 0 {
				a := c.attention(b)
				a.Layer = layer
				c.check(c.kernels.ObservePacked(c.stream, &a, packings[i], what, t.watched[j].at, t.watchedOf[j].at, c.packedAt(b, layer), n, b.parts(), t.most[j], b.at.at))
			}
		}
	}
}
