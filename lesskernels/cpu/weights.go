package cpu

import (
	"fmt"
	"math"
)

// Weights keep what a block of queries gives the slots of the segments that it attends to
// until the log-sum-exps over all segments are known. What every slot got of all queries
// and query heads then costs no second look at the keys, as Columns does. The zero value
// is ready; it belongs to one goroutine at a time.
type Weights struct {
	queries  int // rows times query heads
	segments []segmentWeights
}

// segmentWeights are those of one segment, known but for a factor of each query.
type segmentWeights struct {
	room   Scratch
	slots  int
	lanes  int       // of a lane group: see tile; 0: portable
	most   []int32   // [groups] slots that a lane group sees
	values []float32 // tile by tile, or portable [queries]{weights [slots]} and their log-sum-exps
}

// Clear forgets all segments.
func (w *Weights) Clear() { w.segments = w.segments[:0] }

// AttendBlock is AttendBlock over one more segment. All are of the same queries, and have
// the same ISA, group and headDim.
func (w *Weights) AttendBlock(isa ISA, out, lse, q []float32, k, v []uint16, group, headDim int, visible []int32, scale float32, s *Scratch) {
	n := len(w.segments)
	if n < cap(w.segments) {
		w.segments = w.segments[:n+1]
	} else {
		w.segments = append(w.segments, segmentWeights{})
	}
	w.queries = len(visible) * group
	segment := &w.segments[n]
	segment.slots, segment.lanes = len(k)/headDim, 0
	a := attention{out: out, lse: lse, q: q, k: slotRows{bf16: k}, v: slotRows{bf16: v}, group: group, headDim: headDim, visible: visible, scale: scale, block: true, weights: segment}
	a.check()
	if a.assembly(isa, s) {
		return
	}
	a.portable(s)
	segment.values = segment.room.floats(w.queries * (segment.slots + 1))
	clear(segment.values)
	for i := range w.queries {
		row := visible[i/group:][:1]
		Columns(isa, segment.values[i*segment.slots:][:segment.slots], q[i*headDim:], lse[i:], k, 1, 1, headDim, row, scale, Sum, s)
	}
	copy(segment.values[w.queries*segment.slots:], lse[:w.queries])
}

// Columns adds to dst, the slots of all segments one after the other, what each got of
// the attention of all queries and query heads, given the log-sum-exps lse [nq, group]
// over all that they see. A query whose lse is −Inf has seen nothing and adds nothing.
func (w *Weights) Columns(dst, lse []float32, s *Scratch) {
	slots := 0
	for i := range w.segments {
		slots += w.segments[i].slots
	}
	if len(dst) < slots || len(lse) < w.queries {
		panic(fmt.Sprintf("cpu: columns of %d queries over %d slots: lse %d, dst %d values", w.queries, slots, len(lse), len(dst)))
	}
	for i := range w.segments {
		segment := &w.segments[i]
		switch {
		case segment.lanes > 0:
			w.columns(segment, dst[:segment.slots], lse[:w.queries], s)
		case segment.slots > 0:
			segment.columns(dst[:segment.slots], lse[:w.queries])
		}
		dst = dst[segment.slots:]
	}
}

// columns is the portable form.
func (w *segmentWeights) columns(dst, lse []float32) {
	peaks := w.values[len(lse)*w.slots:]
	for i, total := range lse {
		if math.IsInf(float64(total), -1) {
			continue
		}
		factor := float32(math.Exp(float64(peaks[i] - total)))
		for slot, p := range w.values[i*w.slots:][:w.slots] {
			dst[slot] += factor * p
		}
	}
}
