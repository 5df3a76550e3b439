package cache

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestKeep(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, test := range []struct {
		name   string
		scores []float32
		n      int
		want   []int32
	}{
		{"the highest, in order", []float32{3, 9, 1, 7, 5}, 3, []int32{1, 3, 4}},
		{"of equal ones the later", []float32{2, 2, 2, 2}, 2, []int32{2, 3}},
		{"ties beside higher ones", []float32{1, 5, 1, 1, 5}, 3, []int32{1, 3, 4}},
		{"protected", []float32{inf, 0, 9, inf, 8}, 3, []int32{0, 2, 3}},
		{"not a number is the lowest", []float32{nan, -5, nan, -9}, 3, []int32{1, 2, 3}},
		{"all", []float32{1, 2}, 5, []int32{0, 1}},
		{"none", []float32{1, 2}, 0, nil},
		{"of nothing", nil, 3, nil},
	} {
		if got := Keep(nil, test.scores, test.n, make([]int32, len(test.scores))); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Against a stable sort of everything.
func TestKeepRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	odd := []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.MaxFloat32, -1e-45}
	for round := range 1000 {
		scores := make([]float32, random.IntN(60))
		for i := range scores {
			switch round % 3 {
			case 0:
				scores[i] = float32(random.IntN(12)) // many ties
			case 1:
				scores[i] = float32(random.NormFloat64())
			default:
				scores[i] = odd[random.IntN(len(odd))]
			}
		}
		n := random.IntN(70)
		order := make([]int32, len(scores))
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortFunc(order, func(a, b int32) int {
			return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(b, a))
		})
		want := slices.Sorted(slices.Values(order[:min(n, len(order))]))
		if got := Keep(nil, scores, n, make([]int32, len(scores))); !slices.Equal(got, want) {
			t.Fatalf("%d of %v: %v, want %v", n, scores, got, want)
		}
	}
}

func TestSinksScores(t *testing.T) {
	positions := []int32{0, 1, 2, 3, 40, 41, 42, 43}
	scores := make([]float32, len(positions))
	sinks{SinkTokens}.Score(scores, Statistics{Positions: positions})
	kept := Keep(nil, scores, 6, make([]int32, len(scores)))
	if want := []int32{0, 1, 2, 3, 6, 7}; !slices.Equal(kept, want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
}
