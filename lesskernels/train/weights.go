package train

import (
	"math"
	"math/rand/v2"

	"lessrag/lesskernels"
)

// weights are a feature map's numbers in one piece, for the optimiser, and by
// name.
type weights struct {
	flat []float32
	lesskernels.FeatureWeights
}

// newWeights are all zero. Features fade, or do not.
func newWeights(s lesskernels.FeatureShape, fading bool) *weights {
	w := &weights{}
	sizes := []int{s.Heads * s.HeadDim * s.Hidden, s.Heads * s.Hidden * s.Rank,
		s.KVHeads * s.HeadDim * s.Hidden, s.KVHeads * s.Hidden * s.Rank, s.KVHeads * s.Rank * s.Rank,
		s.KVHeads * s.Rank, s.KVHeads * s.Rank}
	parts := []*[]float32{&w.Wq1, &w.Wq2, &w.Wk1, &w.Wk2, &w.Wk3, &w.S1, &w.S2}
	if fading {
		sizes, parts = append(sizes, s.KVHeads*s.Rank), append(parts, &w.Fade)
	}
	total := 0
	for _, n := range sizes {
		total += n
	}
	w.flat = make([]float32, total)
	rest := w.flat
	for i, part := range parts {
		*part, rest = rest[:sizes[i]:sizes[i]], rest[sizes[i]:]
	}
	return w
}

// initialScale is what s1 and s2 start with (arXiv 2402.09398, §3.3): a state
// that hardly counts yet.
const initialScale = 1e-4

// A KV head's features begin with rates from one to the other, each so many times the one before.
const slowestStart, fastestStart = 1e-4, 1e-2

// initialise draws matrices uniformly within ±√(6/(rows + columns)).
func (w *weights) initialise(s lesskernels.FeatureShape, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0x1e55))
	for _, m := range []struct {
		values     []float32
		rows, cols int
	}{
		{w.Wq1, s.HeadDim, s.Hidden}, {w.Wq2, s.Hidden, s.Rank},
		{w.Wk1, s.HeadDim, s.Hidden}, {w.Wk2, s.Hidden, s.Rank}, {w.Wk3, s.Rank, s.Rank},
	} {
		bound := math.Sqrt(6 / float64(m.rows+m.cols))
		for i := range m.values {
			m.values[i] = float32((2*rng.Float64() - 1) * bound)
		}
	}
	for i := range w.S1 {
		w.S1[i], w.S2[i] = initialScale, initialScale
	}
	for i := range w.Fade {
		part := float64(i%s.Rank) / float64(max(1, s.Rank-1))
		w.Fade[i] = float32(math.Log(slowestStart) + part*math.Log(fastestStart/slowestStart))
	}
}

// featureMap is the weights with their shape; the numbers stay shared.
func (w *weights) featureMap(s lesskernels.FeatureShape) *lesskernels.FeatureMap {
	f, err := lesskernels.NewFeatureMap(s, w.FeatureWeights)
	if err != nil {
		panic(err) // sizes are ours
	}
	return f
}
