package train

import (
	"math/rand/v2"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// randomAttention is a sequence of the default reader's heads.
func randomAttention(tokens int) *Attention {
	rng := rand.New(rand.NewPCG(31, 32))
	a := &Attention{Shape: Shape{Heads: 9, KVHeads: 3, HeadDim: 64}, Tokens: tokens, Scale: 0.125}
	random := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		return x
	}
	a.Q, a.K, a.V = random(tokens*9*64), random(tokens*3*64), random(tokens*3*64)
	return a
}

func BenchmarkWalk(b *testing.B) {
	a, pool := randomAttention(2048), cpu.NewPool(1)
	for b.Loop() {
		Walk(pool, a, Policy{H2O, 128}, []int{2047})
	}
}

// BenchmarkStep is loss and gradient of one window of 2,048 tokens.
func BenchmarkStep(b *testing.B) {
	a, pool := randomAttention(2048), cpu.NewPool(1)
	rows := make([]int, 320)
	for i := range rows {
		rows[i] = 252 + i*5
	}
	s := Walk(pool, a, Policy{H2O, 128}, rows).Sample(a, a.Q, a.K, a.Q)
	shape := lesskernels.FeatureShape{Heads: 9, KVHeads: 3, HeadDim: 64, Hidden: 128, Rank: 8}
	w, grad := newWeights(shape, true), newWeights(shape, true)
	w.initialise(shape, 1)
	l := NewLayer(shape, NewMetric(a.Q[:576*576], 576, 576))
	for b.Loop() {
		l.gradient(grad, w, s, 1)
	}
}
