package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestWeights compares what slots of two segments get of a block with softmax weights in
// float64, and the attention itself with AttendBlock's, bit for bit.
func TestWeights(t *testing.T) {
	for _, isa := range isas() {
		for _, headDim := range []int{1, 16, 20, 40, 64, 80, 128} {
			for _, group := range []int{1, 3, 4} {
				t.Run(fmt.Sprintf("%v/headDim=%d/group=%d", isa, headDim, group), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(uint64(headDim), uint64(group)))
					var w Weights
					var s Scratch
					for _, rows := range []int{1, 5, 21, 64} {
						for _, held := range []int{0, 1, 47, 131} {
							testWeights(t, rng, isa, headDim, group, rows, held, &w, &s)
						}
					}
				})
			}
		}
	}
}

// testWeights attends to what is held, of which the first row sees nothing, and to the
// block's own slots.
func testWeights(t *testing.T, rng *rand.Rand, isa ISA, headDim, group, rows, held int, w *Weights, s *Scratch) {
	t.Helper()
	slots, queries := held+rows, rows*group
	q, k, v := randomFloats(rng, queries*headDim), make([]uint16, slots*headDim), make([]uint16, slots*headDim)
	BF16(k, randomFloats(rng, len(k)))
	BF16(v, randomFloats(rng, len(v)))
	scale := 3 / math.Sqrt(float64(headDim))
	all, own := make([]int32, rows), rising(rows, 0) // nor does it see its own
	for i := 1; i < rows; i++ {
		all[i] = int32(held)
	}
	lse := make([]float32, queries)
	want, off := make([]float64, slots), 0.0
	w.Clear()
	out, part := make([]float32, len(q)), make([]float32, queries)
	for _, segment := range []struct {
		from, to int
		visible  []int32
	}{{0, held, all}, {held, slots, own}} {
		k, v := k[segment.from*headDim:segment.to*headDim], v[segment.from*headDim:segment.to*headDim]
		w.AttendBlock(isa, out, part, q, k, v, group, headDim, segment.visible, float32(scale), s)
		same, sameLSE := make([]float32, len(q)), make([]float32, queries)
		AttendBlock(isa, same, sameLSE, q, k, v, group, headDim, segment.visible, float32(scale), s)
		if !slices.Equal(out, same) || !slices.Equal(part, sameLSE) {
			t.Fatalf("%d rows, %d slots: attention differs where weights are kept", rows, segment.to-segment.from)
		}
		for i, x := range part {
			off = max(off, scoreError(isa, q[i*headDim:(i+1)*headDim], k, segment.to-segment.from)*scale)
			if a, b := float64(lse[i]), float64(x); segment.from == 0 {
				lse[i] = x
			} else if !math.IsInf(b, -1) {
				lse[i] = float32(math.Log(math.Exp(a) + math.Exp(b)))
			}
		}
	}
	dst := randomFloats(rng, slots+1)
	for i := range want {
		want[i] = float64(dst[i])
	}
	for i := range queries {
		query, row := q[i*headDim:(i+1)*headDim], i/group
		scores, total := make([]float64, slots), 0.0
		for slot := range scores {
			if row == 0 || slot >= held+row {
				continue
			}
			for c, x := range query {
				scores[slot] += float64(x) * float64(fromBF16(k[slot*headDim+c])) * scale
			}
			scores[slot] = math.Exp(scores[slot])
			total += scores[slot]
		}
		for slot, p := range scores {
			want[slot] += p / max(total, 1e-300)
		}
	}
	last := dst[slots]
	w.Columns(dst, lse, s)
	for i, p := range want {
		if !(math.Abs(float64(dst[i])-p) <= (2e-5+2*off)*(math.Abs(p)+0.1)) {
			t.Fatalf("%d rows, %d held: slot %d got %v, want %v", rows, held, i, dst[i], p)
		}
	}
	if dst[slots] != last {
		t.Fatal("written beyond the slots")
	}
}

// TestWeightsExtremes checks queries that have seen nothing, and scores far apart.
func TestWeightsExtremes(t *testing.T) {
	const headDim, slots, rows = 64, 100, 20
	for _, isa := range isas() {
		q, k := make([]float32, rows*headDim), make([]uint16, slots*headDim)
		for i := range q {
			q[i] = 30
		}
		for i := range k {
			k[i] = toBF16(float32(i/headDim - 40))
		}
		visible, lse := rising(rows, slots-rows+1), make([]float32, rows)
		out, dst := make([]float32, len(q)), make([]float32, slots)
		var w Weights
		var s Scratch
		w.AttendBlock(isa, out, lse, q, k, k, 1, headDim, visible, 1, &s)
		w.Columns(dst, lse, &s)
		for slot, x := range dst { // each row gives all to the last slot that it sees
			want := 0.0
			if slot >= slots-rows {
				want = 1
			}
			if !(math.Abs(float64(x)-want) <= 1e-2) { // log-sum-exps of 1e5 in float32
				t.Fatalf("%v: slot %d got %v, want %v", isa, slot, x, want)
			}
		}
		for i := range lse {
			lse[i] = float32(math.Inf(-1))
		}
		clear(dst)
		if w.Columns(dst, lse, &s); !slices.Equal(dst, make([]float32, slots)) {
			t.Fatalf("%v: queries that saw nothing gave %v", isa, dst)
		}
	}
}
