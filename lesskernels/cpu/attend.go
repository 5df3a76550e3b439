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
	checkAttend(out, lse, q, k, v, group, headDim, visible)
	if attendAssembly(isa, out, lse, q, k, v, group, headDim, visible, scale, s) {
		return
	}
	attendPortable(out, lse, q, k, v, group, headDim, visible, scale, s)
}

// checkAttend panics when shapes disagree: a broken invariant of the caller.
func checkAttend(out, lse, q []float32, k, v []uint16, group, headDim int, visible []int32) {
	queries := len(visible) * group
	if len(q) < queries*headDim || len(out) < queries*headDim || len(lse) < queries {
		panic(fmt.Sprintf("cpu: attend %d queries of %d: q %d, out %d, lse %d values",
			queries, headDim, len(q), len(out), len(lse)))
	}
	for _, n := range visible {
		if n < 0 || len(k) < int(n)*headDim || len(v) < int(n)*headDim {
			panic(fmt.Sprintf("cpu: attend over %d slots of %d: k %d, v %d values", n, headDim, len(k), len(v)))
		}
	}
}

// attendPortable is the plain form: scores, softmax, weighted sum.
func attendPortable(out, lse, q []float32, k, v []uint16, group, headDim int, visible []int32, scale float32, s *Scratch) {
	for i := range len(visible) * group {
		slots := int(visible[i/group])
		scores := s.floats(slots)
		query, o := q[i*headDim:(i+1)*headDim], out[i*headDim:(i+1)*headDim]
		clear(o)
		peak := float32(math.Inf(-1))
		for t := range scores {
			sum := float32(0)
			for c, kv := range k[t*headDim : (t+1)*headDim] {
				sum += query[c] * fromBF16(kv)
			}
			scores[t] = sum * scale
			peak = max(peak, scores[t])
		}
		sum := 0.0
		for t, x := range scores {
			p := float32(math.Exp(float64(x - peak)))
			sum += float64(p)
			for c, vv := range v[t*headDim : (t+1)*headDim] {
				o[c] += p * fromBF16(vv)
			}
		}
		lse[i] = peak + float32(math.Log(sum))
		if slots == 0 {
			lse[i] = float32(math.Inf(-1))
			continue
		}
		for c := range o {
			o[c] *= float32(1 / sum)
		}
	}
}
