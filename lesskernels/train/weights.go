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

func newWeights(s lesskernels.FeatureShape) *weights {
	w := &weights{}
	sizes := []int{s.Heads * s.HeadDim * s.Hidden, s.Heads * s.Hidden * s.Rank,
		s.KVHeads * s.HeadDim * s.Hidden, s.KVHeads * s.Hidden * s.Rank, s.KVHeads * s.Rank * s.Rank,
		s.KVHeads * s.Rank, s.KVHeads * s.Rank}
	total := 0
	for _, n := range sizes {
		total += n
	}
	w.flat = make([]float32, total)
	rest := w.flat
	for i, part := range []*[]float32{&w.Wq1, &w.Wq2, &w.Wk1, &w.Wk2, &w.Wk3, &w.S1, &w.S2} {
		*part, rest = rest[:sizes[i]:sizes[i]], rest[sizes[i]:]
	}
	return w
}

// initialScale is what s1 and s2 start with (arXiv 2402.09398, §3.3): a state
// that hardly counts yet.
const initialScale = 1e-4

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
}

// featureMap is the weights with their shape; the numbers stay shared.
func (w *weights) featureMap(s lesskernels.FeatureShape) *lesskernels.FeatureMap {
	f, err := lesskernels.NewFeatureMap(s, w.FeatureWeights)
	if err != nil {
		panic(err) // sizes are ours
	}
	return f
}
