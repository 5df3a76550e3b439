package cpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/lesskernels"
)

// randomMap makes maps whose hidden values and features are of the size of one.
// Their weights are exact in bf16.
func randomMap(tb testing.TB, rng *rand.Rand, s lesskernels.FeatureShape) *lesskernels.FeatureMap {
	tb.Helper()
	weights := func(n, fanIn int) []float32 {
		x, h := randomFloats(rng, n), make([]uint16, n)
		for i := range x {
			x[i] /= float32(math.Sqrt(float64(fanIn)))
		}
		BF16(h, x)
		return widened(h)
	}
	f, err := lesskernels.NewFeatureMap(s, lesskernels.FeatureWeights{
		Wq1: weights(s.Heads*s.HeadDim*s.Hidden, s.HeadDim), Wq2: weights(s.Heads*s.Hidden*s.Rank, s.Hidden),
		Wk1: weights(s.KVHeads*s.HeadDim*s.Hidden, s.HeadDim), Wk2: weights(s.KVHeads*s.Hidden*s.Rank, s.Hidden),
		Wk3: weights(s.KVHeads*s.Rank*s.Rank, s.Rank),
		S1:  randomFloats(rng, s.KVHeads*s.Rank), S2: randomFloats(rng, s.KVHeads*s.Rank),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// mapShapes are those of real models, and odd ones.
var mapShapes = []lesskernels.FeatureShape{
	{Heads: 9, KVHeads: 3, HeadDim: 64, Hidden: 128, Rank: 8},
	{Heads: 4, KVHeads: 1, HeadDim: 128, Hidden: 512, Rank: 16},
	{Heads: 8, KVHeads: 1, HeadDim: 256, Hidden: 64, Rank: 8},
	{Heads: 2, KVHeads: 2, HeadDim: 40, Hidden: 100, Rank: 5},
	{Heads: 1, KVHeads: 1, HeadDim: 80, Hidden: 33, Rank: 19},
	{Heads: 3, KVHeads: 1, HeadDim: 1, Hidden: 1, Rank: 1},
}

// TestMaps compares φ and ψ of every instruction set with the oracle, and
// checks that a row's features are the same bits whatever rows are beside it.
func TestMaps(t *testing.T) {
	for _, isa := range isas() {
		for _, shape := range mapShapes {
			t.Run(fmt.Sprintf("%v/%+v", isa, shape), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(shape.HeadDim), uint64(shape.Rank)))
				f := randomMap(t, rng, shape)
				m := PackMaps(f, isa)
				for _, n := range []int{0, 1, 2, 3, 5, 7, 13, 33} {
					testPhi(t, rng, f, m, n)
					testPsi(t, rng, f, m, n)
				}
			})
		}
	}
}

func testPhi(t *testing.T, rng *rand.Rand, f *lesskernels.FeatureMap, m *Maps, n int) {
	t.Helper()
	var s Scratch
	group := f.Heads / f.KVHeads
	kvHead := n % f.KVHeads
	q, want := randomFloats(rng, n*group*f.HeadDim), make([]float32, f.Rank)
	got, alone := append(make([]float32, n*group*f.Rank), 7), make([]float32, group*f.Rank)
	m.Phi(got, kvHead, q, n, &s)
	if got[len(got)-1] != 7 {
		t.Fatal("wrote beyond the end")
	}
	for i := range n * group {
		f.Phi(want, kvHead*group+i%group, q[i*f.HeadDim:])
		compareFeatures(t, got[i*f.Rank:], want)
		if i%group == 0 {
			m.Phi(alone, kvHead, q[i*f.HeadDim:], 1, &s)
			if !slices.Equal(alone, got[i*f.Rank:][:group*f.Rank]) {
				t.Fatalf("φ of row %d of %d: %v, alone %v", i/group, n, got[i*f.Rank:][:group*f.Rank], alone)
			}
		}
	}
}

func testPsi(t *testing.T, rng *rand.Rand, f *lesskernels.FeatureMap, m *Maps, n int) {
	t.Helper()
	var s Scratch
	kvHead := n % f.KVHeads
	k, want, alone := randomFloats(rng, n*f.HeadDim), make([]float32, f.Rank), make([]float32, f.Rank)
	got := append(make([]float32, n*f.Rank), 7)
	m.Psi(got, kvHead, k, n, &s)
	if got[len(got)-1] != 7 {
		t.Fatal("wrote beyond the end")
	}
	for i := range n {
		f.Psi(want, kvHead, k[i*f.HeadDim:])
		compareFeatures(t, got[i*f.Rank:], want)
		m.Psi(alone, kvHead, k[i*f.HeadDim:], 1, &s)
		if !slices.Equal(alone, got[i*f.Rank:][:f.Rank]) {
			t.Fatalf("ψ of key %d of %d: %v, alone %v", i, n, got[i*f.Rank:][:f.Rank], alone)
		}
	}
}

func compareFeatures(t *testing.T, got, want []float32) {
	t.Helper()
	for r, w := range want {
		if diff := math.Abs(float64(got[r] - w)); !(diff <= 2e-6*(1+float64(w))) {
			t.Fatalf("feature %d is %v, want %v", r, got[r], w)
		}
	}
}

// TestMapsNaN checks that a NaN in one row shows in its features and no other's.
func TestMapsNaN(t *testing.T) {
	for _, isa := range isas() {
		rng := rand.New(rand.NewPCG(1, 2))
		shape := mapShapes[0]
		m := PackMaps(randomMap(t, rng, shape), isa)
		const n, bad = 13, 4
		k, dst := randomFloats(rng, n*shape.HeadDim), make([]float32, n*shape.Rank)
		k[bad*shape.HeadDim+7] = nan
		var s Scratch
		m.Psi(dst, 0, k, n, &s)
		for i, x := range dst {
			if got, want := x != x, i/shape.Rank == bad; got != want {
				t.Fatalf("%v: ψ of key %d holds %v", isa, i/shape.Rank, x)
			}
		}
	}
}
