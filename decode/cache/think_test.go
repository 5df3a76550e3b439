package cache

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/lesskernels/vectortest"
)

// Ratio 0 prunes nothing; the ranking of channels is that of the Frobenius norms of what
// each adds to the scores.
func TestThinkRanksByFrobenius(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	const d, queries, tokens = 24, 32, 77
	q, k := make([]float32, queries*d), make([]float32, tokens*d)
	for i := range q {
		q[i] = float32(random.NormFloat64() * math.Exp(float64(i%d%7)/3))
	}
	for i := range k {
		k[i] = float32(random.NormFloat64() * math.Exp(float64(i%d%5)/2))
	}
	squares := make([]float32, d)
	for i, x := range q {
		squares[i%d] += x * x / queries
	}
	norms := make([]float64, d) // ‖q_c k_cᵀ‖_F², entry by entry
	for c := range norms {
		for i := range queries {
			for j := range tokens {
				x := float64(q[i*d+c]) * float64(k[j*d+c])
				norms[c] += x * x
			}
		}
	}
	order := make([]int, d)
	for c := range order {
		order[c] = c
	}
	slices.SortFunc(order, func(x, y int) int {
		if norms[x] > norms[y] {
			return -1
		}
		return 1
	})
	for ratio := range 91 {
		keep := Spec{Think: ratio}.keyChannels(d)
		if keep != d-int(float64(d)*float64(ratio)/100+1e-9) {
			t.Errorf("ratio %d%% keeps %d of %d channels", ratio, keep, d)
		}
		got, want := make([]uint16, keep), make([]uint16, keep)
		KeptChannels(got, squares, squaresOf(k, d), tokens)
		for i, c := range order[:keep] {
			want[i] = uint16(c)
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("ratio %d%%: kept %v, want %v", ratio, got, want)
		}
	}
	nan := slices.Clone(squares)
	nan[3] = float32(math.NaN())
	kept := make([]uint16, d-1)
	if KeptChannels(kept, nan, squaresOf(k, d), tokens); slices.Contains(kept, 3) {
		t.Error("a channel that is not a number is kept before others")
	}
}

// The last 32 queries count, whatever the blocks before them; a shorter block shares
// with what was before.
func TestAsk(t *testing.T) {
	s := newCombined(t, Spec{Think: 40}, Budget{Tokens: 300}).s
	squares := func(x float32) []float32 { return slices.Repeat([]float32{x}, combinedShape.HeadDim) }
	for _, step := range []struct {
		n          int
		squares, x float32
	}{{8, 4, 4}, {8, 2, 3}, {128, 7, 7}, {16, 1, 4}, {1, 36, 5}} {
		s.Ask(0, 1, step.n, squares(step.squares))
		s.Advance(step.n)
		if got := s.heads[1].queries[5]; !(math.Abs(float64(got-step.x)) < 1e-5) {
			t.Errorf("after a block of %d with %v: %v, want %v", step.n, step.squares, got, step.x)
		}
	}
}

// ThinK's channels are those that an independent program keeps.
func TestThinkVectors(t *testing.T) {
	var cases []struct {
		Dim, Percent int
		Q, K         []float32
		Channels     []uint16
	}
	if vectortest.Read(t, "../../lesskernels/cpu/testdata/packed.json.gz", &cases); len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		squares := make([]float32, c.Dim)
		for i, x := range c.Q {
			squares[i%c.Dim] += x * x / float32(len(c.Q)/c.Dim)
		}
		got := make([]uint16, Spec{Think: c.Percent}.keyChannels(c.Dim))
		if KeptChannels(got, squares, squaresOf(c.K, c.Dim), len(c.K)/c.Dim); !slices.Equal(got, c.Channels) {
			t.Errorf("%d%% of %d channels: kept %v, want %v", c.Percent, c.Dim, got, c.Channels)
		}
	}
}
