package cpu

import "fmt"

// PackedSlots are groups of packed keys and values of one KV head, all of which every
// query sees.
type PackedSlots struct {
	Packing
	Groups   []uint16 // one after the other
	Channels []uint16 // [Keys] the channels that keys keep, rising; nil: all
}

// len is how many groups there are.
func (p PackedSlots) len() int { return len(p.Groups) / max(1, p.Words()) }

// group is one of them.
func (p PackedSlots) group(i int) []uint16 { return p.Groups[i*p.Words():][:p.Words()] }

// chunkGroups is how many groups are unpacked at a time for many queries.
const chunkGroups = 8

// AttendPacked is Attend over packed slots. Of q and out [nq, group, headDim] the first
// Values numbers of each head count; the others of out become 0. A few queries meet the
// codes themselves; for many, groups are unpacked a few at a time.
func AttendPacked(isa ISA, out, lse, q []float32, p PackedSlots, group, headDim int, scale float32, s *Scratch) {
	p.check(len(q), len(out), len(lse), headDim)
	if p.len() == 0 {
		hideAll(out, lse)
		return
	}
	if !p.attendAssembly(isa, out, lse, nil, nil, q, group, headDim, scale, s) {
		p.attendUnpacked(isa, out, lse, q, group, headDim, scale, s)
	}
	p.settleOut(out, len(lse), headDim)
}

// settleOut rotates the outputs of so many heads back, and clears what is behind them.
func (p PackedSlots) settleOut(out []float32, heads, headDim int) {
	for i := range heads {
		head := out[i*headDim : (i+1)*headDim]
		p.mix(head[:p.Values])
		clear(head[p.Values:])
	}
}

// attendUnpacked is AttendPacked by way of float32 keys and values, whose output is
// still rotated.
func (p PackedSlots) attendUnpacked(isa ISA, out, lse, q []float32, group, headDim int, scale float32, s *Scratch) {
	heads, d := len(lse), p.Values
	narrow := s.packed.take(&s.packed.q, heads*d)
	p.gather(narrow, q, heads, d, headDim, 1)
	sum, sumLSE := s.packed.take(&s.packed.out, heads*d), s.packed.take(&s.packed.lse, heads)
	one, oneLSE := s.packed.take(&s.packed.one, heads*d), s.packed.take(&s.packed.oneLSE, heads)
	for first := 0; first < p.len(); first += chunkGroups {
		keys, values := p.unpack(isa, s, first, min(chunkGroups, p.len()-first))
		visible := s.packed.all(heads/group, len(keys)/d)
		if first == 0 {
			AttendFloat32(isa, sum, sumLSE, narrow, keys, values, group, d, visible, scale, s)
			continue
		}
		AttendFloat32(isa, one, oneLSE, narrow, keys, values, group, d, visible, scale, s)
		Merge(isa, sum, sumLSE, one, oneLSE, d)
	}
	for i := range heads {
		copy(out[i*headDim:], sum[i*d:(i+1)*d])
	}
	copy(lse, sumLSE)
}

// AttendPackedRow is AttendRow over packed slots.
func AttendPackedRow(isa ISA, out, lse, weights, peak, q []float32, p PackedSlots, group, headDim int, scale float32, s *Scratch) {
	lse, peak, weights = lse[:group], peak[:group], weights[:group*p.len()*PackTokens]
	p.check(len(q), len(out), group, headDim)
	if p.len() > 0 && p.attendAssembly(isa, out, lse, weights, peak, q, group, headDim, scale, s) {
		p.settleOut(out, group, headDim)
		return
	}
	AttendPacked(isa, out, lse, q, p, group, headDim, scale, s)
	copy(peak, lse)
	clear(weights)
	ColumnsPacked(isa, weights, q, lse, p, group, headDim, scale, Sum, s)
}

// ColumnsPacked is Columns over packed slots.
func ColumnsPacked(isa ISA, dst, q, lse []float32, p PackedSlots, group, headDim int, scale float32, reduce Reduce, s *Scratch) {
	heads := len(lse)
	p.check(len(q), len(q), heads, headDim)
	if len(dst) < group*p.len()*PackTokens {
		panic(fmt.Sprintf("cpu: columns of %d packed groups into %d values", p.len(), len(dst)))
	}
	if p.columnsAssembly(isa, dst, q, lse, group, headDim, scale, reduce, s) {
		return
	}
	d, slots := p.Values, p.len()*PackTokens
	narrow := s.packed.take(&s.packed.q, heads*d)
	p.gather(narrow, q, heads, d, headDim, 1)
	for first := 0; first < p.len(); first += chunkGroups {
		keys, _ := p.unpack(isa, s, first, min(chunkGroups, p.len()-first))
		n := len(keys) / d
		part := s.packed.take(&s.packed.one, group*n)
		for g := range group {
			copy(part[g*n:(g+1)*n], dst[g*slots+first*PackTokens:])
		}
		columns{part, narrow, lse, slotRows{f32: keys}, group, group, d, n, s.packed.all(heads/group, n), scale, reduce}.run(isa, s)
		for g := range group {
			copy(dst[g*slots+first*PackTokens:][:n], part[g*n:])
		}
	}
}

// check panics when shapes disagree: a broken invariant of the caller.
func (p PackedSlots) check(q, out, heads, headDim int) {
	if len(p.Groups) != p.len()*p.Words() || q < heads*headDim || out < heads*headDim || headDim < p.Values ||
		p.Channels == nil && p.Keys != p.Values || p.Channels != nil && len(p.Channels) != p.Keys {
		panic(fmt.Sprintf("cpu: attend over %d words of %+v with %d channels: %d queries of %d, q %d, out %d values",
			len(p.Groups), p.Packing, len(p.Channels), heads, headDim, q, out))
	}
}

// unpack returns the keys and values [n·32, Values] of n groups, as they are stored:
// rotated, a key's channels first and zeros behind them.
func (p PackedSlots) unpack(isa ISA, s *Scratch, first, n int) (keys, values []float32) {
	d := p.Values
	keys, values = s.packed.take(&s.packed.keys, n*PackTokens*d), s.packed.take(&s.packed.values, n*PackTokens*d)
	if p.Keys < d {
		clear(keys)
	}
	for i := range n {
		k, v := keys[i*PackTokens*d:(i+1)*PackTokens*d], values[i*PackTokens*d:(i+1)*PackTokens*d]
		if !p.unpackAssembly(isa, k, v, p.group(first+i), s) {
			p.unpackGroup(k, v, p.group(first+i))
		}
	}
	return keys, values
}

// unpackGroup writes a group's keys and values [32, Values] as they are stored; of keys,
// only the channels that there are.
func (p PackedSlots) unpackGroup(keys, values []float32, group []uint16) {
	d := p.Values
	var row [packLanes]float32
	at, rows := group[:p.keyWords()], p.keyRows()
	for c := range p.Keys {
		p.unpackRow(row[:], at, rows, c)
		for t, x := range row {
			keys[t*d+c] = x
		}
	}
	at, rows = group[p.keyWords():], p.blocks()*PackTokens
	for b := range p.blocks() {
		for t := range PackTokens {
			p.unpackRow(row[:], at, rows, b*PackTokens+t)
			copy(values[t*d+b*packLanes:t*d+min(d, (b+1)*packLanes)], row[:])
		}
	}
}

// Unpack writes the keys and values [32, Values] that one group stands for, pruned
// channels 0.
func (p PackedSlots) Unpack(keys, values []float32, i int) {
	clear(keys[:PackTokens*p.Values])
	p.unpackGroup(keys, values, p.group(i))
	for t := range PackTokens {
		key := keys[t*p.Values : (t+1)*p.Values]
		p.mix(key[:p.Keys])
		p.mix(values[t*p.Values : (t+1)*p.Values])
		for j := len(p.Channels) - 1; j >= 0; j-- { // channels rise: none is overwritten before it is moved
			if c := int(p.Channels[j]); c != j {
				key[c], key[j] = key[j], 0
			}
		}
	}
}

// packedScratch is what AttendPacked and ColumnsPacked work in.
type packedScratch struct {
	q, out, lse, one, oneLSE, keys, values []float32
	visible                                []int32
}

// take is n numbers of any content of one of the buffers.
func (*packedScratch) take(buffer *[]float32, n int) []float32 {
	if cap(*buffer) < n {
		*buffer = make([]float32, n+n/2)
	}
	return (*buffer)[:n]
}

// all lets n queries see so many slots.
func (p *packedScratch) all(n, slots int) []int32 {
	p.visible = p.visible[:0]
	for range n {
		p.visible = append(p.visible, int32(slots))
	}
	return p.visible
}

// gather writes to dst [heads, stride] the key channels of q [heads, headDim], rotated,
// times scale, zeros behind them.
func (p PackedSlots) gather(dst, q []float32, heads, stride, headDim int, scale float32) {
	clear(dst)
	for i := range heads {
		to, from := dst[i*stride:(i+1)*stride], q[i*headDim:]
		for j := range p.Keys {
			c := j
			if p.Channels != nil {
				c = int(p.Channels[j])
			}
			to[j] = from[c] * scale
		}
		p.mix(to[:p.Keys])
	}
}
