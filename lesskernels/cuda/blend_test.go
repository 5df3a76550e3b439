package cuda

import (
	"fmt"
	"slices"
	"testing"
)

// Rows are copied from where a list tells, or to there, and nothing else is.
func TestPick(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, width := range []int{1, 33, 1024, 1500} {
			list := []int32{4, 0, 6}
			many, few := nothing(7*width), r.normal(len(list)*width, 1)
			for _, row := range list {
				copy(many[int(row)*width:], r.normal(width, 1))
			}
			bits := func(x []float32) []uint16 { return get[uint16](r, put(r, x), 2*len(x)) } // NaN is not equal to itself
			want, scattered := make([]float32, len(few)), slices.Clone(many)
			for i, row := range list {
				copy(want[i*width:(i+1)*width], many[int(row)*width:])
				copy(scattered[int(row)*width:], few[i*width:(i+1)*width])
			}
			from, to, at := put(r, many), put(r, nothing(len(few))), put(r, list)
			r.must(r.Gather(r.s, from, to, at, len(list), 4*width))
			if !slices.Equal(get[uint16](r, to, 2*len(few)), bits(want)) {
				t.Errorf("width %d: other rows were gathered", width)
			}
			r.must(r.Scatter(r.s, put(r, few), from, at, len(list), 4*width))
			if !slices.Equal(get[uint16](r, from, 2*len(many)), bits(scattered)) {
				t.Errorf("width %d: other rows were scattered", width)
			}
		}
		if err := r.Gather(r.s, 0, 0, 0, 1, 6); err == nil {
			t.Error("half a word is gathered")
		}
	})
}

// Distances and lengths are those of float64; slots of other positions and other layers hold nothing.
func TestDeviate(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, h := range []Heads{{6, 2, 64}, {3, 3, 128}, {1, 1, 256}} {
			const rows, slots, layer = 5, 12, 1
			positions := []int32{7, 0, 11, 3, 4}
			place := Place{Key: 2, Value: int64(2 + 2*h.KVHeads*slots), Layer: int64(h.KVHeads * slots), Head: slots}
			memory, _ := brains(nothing((2 + 4*h.KVHeads*slots) * h.Dim))
			keys, wideKeys := brains(r.normal(h.KVHeads*rows*h.Dim, 1))
			values, wideValues := brains(r.normal(h.KVHeads*rows*h.Dim, 3))
			var want [4][]float64 // as Deviation
			for row, position := range positions {
				var sums [4]float64
				for kv := range h.KVHeads {
					for i, part := range []struct {
						first int64
						own   []float32
					}{{place.Key, wideKeys}, {place.Value, wideValues}} {
						bits, stored := brains(r.normal(h.Dim, 2))
						copy(memory[(int(part.first)+(layer*h.KVHeads+kv)*slots+int(position))*h.Dim:], bits)
						for j, x := range part.own[(kv*rows+row)*h.Dim:][:h.Dim] {
							apart := float64(x) - float64(stored[j])
							sums[i] += apart * apart
							sums[2+i] += float64(x) * float64(x)
						}
					}
				}
				for i := range want {
					want[i] = append(want[i], sums[i])
				}
			}
			out := put(r, nothing(4*rows))
			r.must(r.Deviate(r.s, h, put(r, memory), put(r, keys), put(r, values), put(r, []Place{place}), put(r, positions), out, rows, layer))
			var got [4][]float32
			for _, d := range get[Deviation](r, out, rows) {
				for i, x := range []float32{d.KeyApart, d.ValueApart, d.KeySize, d.ValueSize} {
					got[i] = append(got[i], x)
				}
			}
			for i := range want {
				near(t, fmt.Sprintf("%+v: number %d", h, i), got[i], want[i], 1e-6)
			}
		}
	})
}
