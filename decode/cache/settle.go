package cache

import (
	"math"
	"slices"

	"lessrag/lesskernels/cpu"
)

// settling is the working memory of packing and unpacking a group.
type settling struct {
	keys, values []float32 // [32, dim]
	pruned       []float32 // [32, keys]
	rows         []uint16  // k and v [32, headDim] bf16
	psi          []float32 // [32, rank]
}

// floats is x with room for n numbers of any content.
func floats(x []float32, n int) []float32 { return slices.Grow(x[:0], n)[:n] }

// settle packs the oldest 32 recent tokens of KV head i.
func (s *Sequence) settle(i int) {
	h, shape := &s.heads[i], s.plan.Shape
	dim, d, front := shape.HeadDim, shape.valueDim(), h.front()
	from, to := front*dim, (front+GroupTokens)*dim
	at := front + h.settled*GroupTokens
	positions := h.positions[at : at+GroupTokens]
	if s.handlers.Settle != nil {
		note := s.handlers.Settle(i/shape.KVHeads, i%shape.KVHeads, h.k[from:to], h.v[from:to], positions)
		h.groups[2*h.settled], h.groups[2*h.settled+1] = uint16(note), uint16(note>>16)
		s.close(h, from, to)
		return
	}
	s.widen(&s.settling.keys, h.k[from:to])
	s.widen(&s.settling.values, h.v[from:to])
	keys := s.settling.keys
	if len(h.channels) > 0 {
		s.prune(i, h.k[:h.loose()*dim])
		s.settling.pruned = floats(s.settling.pruned, GroupTokens*s.packing.Keys)
		for t := range GroupTokens {
			for j, c := range h.channels[:s.packing.Keys] {
				s.settling.pruned[t*s.packing.Keys+j] = keys[t*d+int(c)]
			}
		}
		keys = s.settling.pruned
	}
	if words := s.plan.psiWords(i); words > 0 && s.handlers.Features != nil {
		s.settling.psi = floats(s.settling.psi, words)
		s.handlers.Features(i/shape.KVHeads, i%shape.KVHeads, s.settling.keys, positions, s.settling.psi)
		round(h.psi[h.settled*words:(h.settled+1)*words], s.settling.psi)
	}
	words := s.plan.groupWords()
	s.packing.Pack(h.groups[h.settled*words:(h.settled+1)*words], keys, s.settling.values)
	s.close(h, from, to)
}

// close forgets the numbers from…to of a head's loose tokens, which have been packed.
func (s *Sequence) close(h *head, from, to int) {
	loose := h.loose() * s.plan.Shape.HeadDim
	copy(h.k[from:], h.k[to:loose])
	copy(h.v[from:], h.v[to:loose])
	h.settled++
}

// siftGroups keeps or hands over the packed groups that a KV head held; the index of
// their first token is first.
func (s *Sequence) siftGroups(i int, held head, first int, kept []int32) {
	h := &s.heads[i]
	words, psi := s.plan.groupWords(), s.plan.psiWords(i)
	for g := range held.settled {
		at := first + g*GroupTokens
		positions, attention := held.positions[at:at+GroupTokens], held.attention[at*s.width:(at+GroupTokens)*s.width]
		group, features := held.groups[g*words:(g+1)*words], held.psi[g*psi:(g+1)*psi]
		if _, keep := slices.BinarySearch(kept, int32(at)); !keep {
			s.handOverGroup(i, group, features, positions)
			continue
		}
		copy(h.groups[h.settled*words:], group)
		copy(h.psi[h.settled*psi:], features)
		copy(h.positions[h.len:], positions)
		copy(h.attention[h.len*s.width:], attention)
		h.settled++
		h.len += GroupTokens
	}
}

// handOverGroup gives away a packed group: the keys and values that it stands for.
func (s *Sequence) handOverGroup(i int, group, psi []uint16, positions []int32) {
	if s.handlers.Settle != nil {
		var k, v [GroupTokens]uint16
		for t := range k {
			note := uint32(group[0]) + uint32(group[1])<<16 + uint32(t)
			k[t], v[t] = uint16(note), uint16(note>>16)
		}
		s.handOver(i, k[:], v[:], nil, positions)
		return
	}
	dim, d := s.plan.Shape.HeadDim, s.plan.Shape.valueDim()
	p := cpu.PackedSlots{Packing: s.packing, Groups: group}
	if channels := s.heads[i].channels; len(channels) > 0 {
		p.Channels = channels[:s.packing.Keys]
	}
	x := &s.settling
	x.keys, x.values = floats(x.keys, GroupTokens*d), floats(x.values, GroupTokens*d)
	p.Unpack(x.keys, x.values, 0)
	x.rows = slices.Grow(x.rows[:0], 2*GroupTokens*dim)[:2*GroupTokens*dim]
	clear(x.rows)
	k, v := x.rows[:GroupTokens*dim], x.rows[GroupTokens*dim:]
	for t := range GroupTokens {
		round(k[t*dim:t*dim+d], x.keys[t*d:(t+1)*d])
		round(v[t*dim:t*dim+d], x.values[t*d:(t+1)*d])
	}
	if len(psi) == 0 {
		psi = nil
	}
	s.handOver(i, k, v, psi, positions)
}

// widen writes to dst the numbers [n, dim] that rows [n, headDim] bf16 stand for.
func (s *Sequence) widen(dst *[]float32, rows []uint16) {
	dim, d := s.plan.Shape.HeadDim, s.plan.Shape.valueDim()
	*dst = floats(*dst, len(rows)/dim*d)
	clear(*dst)
	for i, x := range rows {
		(*dst)[i/dim*d+i%dim%d] += math.Float32frombits(uint32(x) << 16)
	}
}

// round writes x as bf16.
func round(dst []uint16, x []float32) { cpu.BF16(dst, x) }
