package cpu

import (
	"fmt"
	"math"
	"unsafe"
)

// Scratch is the working memory of Attend, grown as needed and reused. It
// belongs to one goroutine at a time; its zero value is ready.
type Scratch struct {
	words []float32
	tail  []uint16
	lanes []int32

	packed packedScratch
}

// floats returns n numbers of any content, at a multiple of 64 bytes.
func (s *Scratch) floats(n int) []float32 {
	if cap(s.words) < n {
		b := make([]float32, n+n/2+15)
		skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & 63 / 4
		s.words = b[skip:]
	}
	return s.words[:n:n]
}

// keys returns room for n bf16 numbers, zeros where never written.
func (s *Scratch) keys(n int) []uint16 {
	if cap(s.tail) < n {
		s.tail = make([]uint16, n)
	}
	return s.tail[:n]
}

// Attend is the attention of a block of queries of one KV head over its slots.
//
//	q, out  [nq, group, headDim] f32, q not yet scaled
//	lse     [nq, group] natural log-sum-exp of the scaled scores
//	k, v    [slots, headDim] bf16
//	visible [nq]: query i sees slots [0, visible[i])
//
// The whole query group of the KV head is done at once, so that keys and
// values are read once. A query that sees nothing gets out 0 and lse −Inf.
func Attend(isa ISA, out, lse, q []float32, k, v []uint16, group, headDim int, visible []int32, scale float32, s *Scratch) {
	attention{out: out, lse: lse, q: q, k: slotRows{bf16: k}, v: slotRows{bf16: v}, group: group, headDim: headDim, visible: visible, scale: scale}.run(isa, s)
}

// AttendBlock is Attend by the arithmetic of many queries, however few there are: a
// query of a prompt gets the same result wherever the prompt is cut into blocks.
func AttendBlock(isa ISA, out, lse, q []float32, k, v []uint16, group, headDim int, visible []int32, scale float32, s *Scratch) {
	attention{out: out, lse: lse, q: q, k: slotRows{bf16: k}, v: slotRows{bf16: v}, group: group, headDim: headDim, visible: visible, scale: scale, block: true}.run(isa, s)
}

// AttendRow is Attend for one row of queries that sees all slots, and keeps what
// policies observe of it, which then costs no second reading of the keys:
//
//	weights [group, slots] f32, slots = len(k)/headDim
//	peak    [group]
//
// The softmax weight of a slot over everything that the row sees, of which these
// slots may be a part, is weight·e^(peak − lse) with the log-sum-exp over all.
func AttendRow(isa ISA, out, lse, weights, peak, q []float32, k, v []uint16, group, headDim int, scale float32, s *Scratch) {
	slots := len(k) / headDim
	visible := [1]int32{int32(slots)}
	a := attention{out: out, lse: lse, q: q, k: slotRows{bf16: k}, v: slotRows{bf16: v}, group: group, headDim: headDim, visible: visible[:], scale: scale}
	a.check()
	if len(weights) < group*slots || len(peak) < group {
		panic(fmt.Sprintf("cpu: weights of %d query heads over %d slots: %d values, peak %d", group, slots, len(weights), len(peak)))
	}
	if a.assemblyRow(isa, weights, peak, s) {
		return
	}
	if !a.assembly(isa, s) {
		a.portable(s)
	}
	copy(peak, lse[:group])
	clear(weights[:group*slots])
	Columns(isa, weights, q, lse, k, group, group, headDim, visible[:], scale, Sum, s)
}

// AttendFloat32 is Attend over float32 keys and values.
func AttendFloat32(isa ISA, out, lse, q, k, v []float32, group, headDim int, visible []int32, scale float32, s *Scratch) {
	attention{out: out, lse: lse, q: q, k: slotRows{f32: k}, v: slotRows{f32: v}, group: group, headDim: headDim, visible: visible, scale: scale}.run(isa, s)
}

// attention is the arguments of Attend.
type attention struct {
	out, lse, q    []float32
	k, v           slotRows
	group, headDim int
	visible        []int32
	scale          float32
	block          bool            // by the arithmetic of many queries
	weights        *segmentWeights // nil: they are not kept
}

// slotRows are keys or values [slots, headDim] of one KV head in one of two forms.
type slotRows struct {
	bf16 []uint16
	f32  []float32
}

func (r slotRows) len() int { return max(len(r.bf16), len(r.f32)) }

// row returns row t as float32, in buffer where it has to be widened.
func (r slotRows) row(buffer []float32, t int) []float32 {
	n := len(buffer)
	if r.bf16 == nil {
		return r.f32[t*n : (t+1)*n]
	}
	for c, x := range r.bf16[t*n : (t+1)*n] {
		buffer[c] = fromBF16(x)
	}
	return buffer
}

func (a attention) run(isa ISA, s *Scratch) {
	a.check()
	if !a.assembly(isa, s) {
		a.portable(s)
	}
}

// check panics when shapes disagree: a broken invariant of the caller.
func (a attention) check() {
	queries := len(a.visible) * a.group
	if len(a.q) < queries*a.headDim || len(a.out) < queries*a.headDim || len(a.lse) < queries {
		panic(fmt.Sprintf("cpu: attend %d queries of %d: q %d, out %d, lse %d values",
			queries, a.headDim, len(a.q), len(a.out), len(a.lse)))
	}
	for _, n := range a.visible {
		if n < 0 || a.k.len() < int(n)*a.headDim || a.v.len() < int(n)*a.headDim {
			panic(fmt.Sprintf("cpu: attend over %d slots of %d: k %d, v %d values", n, a.headDim, a.k.len(), a.v.len()))
		}
	}
}

// portable is the plain form: scores, softmax, weighted sum.
func (a attention) portable(s *Scratch) {
	for i := range len(a.visible) * a.group {
		slots := int(a.visible[i/a.group])
		words := s.floats(slots + a.headDim)
		scores, buffer := words[:slots], words[slots:]
		query, out := a.q[i*a.headDim:(i+1)*a.headDim], a.out[i*a.headDim:(i+1)*a.headDim]
		clear(out)
		peak := float32(math.Inf(-1))
		for t := range scores {
			scores[t] = dot(query, a.k.row(buffer, t)) * a.scale
			peak = max(peak, scores[t])
		}
		sum := 0.0
		for t, x := range scores {
			p := float32(math.Exp(float64(x - peak)))
			sum += float64(p)
			axpy(out, p, a.v.row(buffer, t))
		}
		if slots == 0 {
			a.lse[i] = float32(math.Inf(-1))
			continue
		}
		a.lse[i] = peak + float32(math.Log(sum))
		for c := range out {
			out[c] *= float32(1 / sum)
		}
	}
}

// hideAll is the result of queries that see nothing.
func hideAll(out, lse []float32) {
	clear(out)
	for i := range lse {
		lse[i] = float32(math.Inf(-1))
	}
}
