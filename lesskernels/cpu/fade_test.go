package cpu

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Features fade by the definition, whatever the age and whoever stands beside them, and sums do as the
// features in them.
func TestFade(t *testing.T) {
	random := rand.New(rand.NewPCG(31, 32))
	for _, rank := range []int{1, 3, 8, 17} {
		rates := make([]float64, rank)
		for r := range rates {
			rates[r] = math.Exp(-4 - 6*random.Float64())
		}
		m := &Maps{fading: []fading{newFading(nil), newFading(rates)}}
		m.shape.Rank = rank
		const width = 3
		ages := []int{0, 1, 63, 64, 65, -1, -63, -64, 8191, 127, 128, 0}
		x := make([]float32, len(ages)*width*rank)
		for i := range x {
			x[i] = random.Float32()
		}
		got := slices.Clone(x)
		m.Fade(got, 1, width, len(ages), func(i int) int { return ages[i] })
		for i, age := range ages {
			for w := range width {
				for r, rate := range rates {
					at := (i*width+w)*rank + r
					want := float64(x[at]) * math.Exp(-rate*float64(age))
					if !(math.Abs(float64(got[at])-want) <= 3e-7*want+1e-26) {
						t.Fatalf("rank %d, age %d: %v, want %v", rank, age, got[at], want)
					}
				}
			}
			alone := slices.Clone(x[i*width*rank:][:width*rank])
			m.Fade(alone, 1, width, 1, func(int) int { return age })
			if !slices.Equal(alone, got[i*width*rank:][:width*rank]) {
				t.Errorf("rank %d, age %d: alone %v", rank, age, alone)
			}
		}
		kept := slices.Clone(x)
		m.Fade(kept, 0, width, len(ages), func(i int) int { return ages[i] })
		if !slices.Equal(kept, x) {
			t.Errorf("rank %d: features of a head whose features do not fade do", rank)
		}

		const dim, by = 5, 777
		h, z := slices.Clone(x[:rank*dim]), slices.Clone(x[:rank])
		FadeSums(m.Rates(1), h, z, by)
		for r, rate := range rates {
			left := math.Exp(-rate * by)
			for i, got := range append(h[r*dim:(r+1)*dim:(r+1)*dim], z[r]) {
				want := float64(append(x[r*dim:(r+1)*dim:(r+1)*dim], x[r])[i]) * left
				if !(math.Abs(float64(got)-want) <= 3e-7*want+1e-26) {
					t.Fatalf("rank %d: a sum grown older by %d is %v, want %v", rank, by, got, want)
				}
			}
		}
	}
}
