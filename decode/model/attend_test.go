package model

import (
	"math"
	"math/rand/v2"
	"testing"

	"lessrag/lesskernels/cpu"
)

// Attention over spans, merged, is attention over all of their slots.
func TestMergeIsTheUnion(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	const group, dim, queries, slots = 3, 20, 4, 137
	q := make([]float32, queries*group*dim)
	k, v := make([]uint16, slots*dim), make([]uint16, slots*dim)
	for i := range q {
		q[i] = float32(random.NormFloat64())
	}
	kv := make([]float32, slots*dim)
	for _, to := range [][]uint16{k, v} {
		for i := range kv {
			kv[i] = float32(random.NormFloat64() * 2)
		}
		cpu.BF16(to, kv)
	}
	attend := func(from, to int, visible []int32) (out, lse []float32) {
		out, lse = make([]float32, len(q)), make([]float32, queries*group)
		seen := make([]int32, queries)
		for i := range seen {
			seen[i] = max(0, min(int32(to-from), visible[i]-int32(from)))
		}
		cpu.Attend(cpu.Portable, out, lse, q, k[from*dim:to*dim], v[from*dim:to*dim], group, dim, seen, 0.3, &cpu.Scratch{})
		return out, lse
	}
	visible := []int32{1, 50, 51, slots}
	want, wantLSE := attend(0, slots, visible)
	out, lse := attend(0, 50, visible)
	for _, span := range [][2]int{{50, 60}, {60, slots}} {
		other, otherLSE := attend(span[0], span[1], visible)
		cpu.Merge(cpu.Best(), out, lse, other, otherLSE, dim)
	}
	for i := range want {
		if !(math.Abs(float64(out[i]-want[i])) <= 1e-5) {
			t.Fatalf("output %d is %v, want %v", i, out[i], want[i])
		}
	}
	for i := range wantLSE {
		if !(math.Abs(float64(lse[i]-wantLSE[i])) <= 1e-5) {
			t.Fatalf("log-sum-exp %d is %v, want %v", i, lse[i], wantLSE[i])
		}
	}
}
