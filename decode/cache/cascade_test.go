package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// How full each sub-cache is follows from how many tokens were inserted: as if they
// had been inserted one by one.
func TestCascadeHeld(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 7))
	for _, rings := range []int{1, 2, 4, 5} {
		for _, widths := range [][]int{{1, 1}, {2, 2}, {5, 5}, {8, 8}, {23, 4}, {2, 7}} {
			p := cascade{rings: rings}
			width := append(slices.Repeat(widths[:1], 1), slices.Repeat(widths[1:], rings-1)...)
			explicit := make([][]int32, rings)
			scores := make([]float32, 500)
			for i := range scores {
				scores[i] = random.Float32()
			}
			for step := 1; step < len(scores); step++ {
				p.insert(explicit, int32(step), step, width, scores)
				var want, got []int
				total := 0
				for _, ring := range explicit {
					want, total = append(want, len(ring)), total+len(ring)
				}
				for _, ring := range p.held(int32(SinkTokens+total), step, width) {
					got = append(got, len(ring))
				}
				if !slices.Equal(got, want) {
					t.Fatalf("sub-caches of %d, step %d: %v, want %v", width, step, got, want)
				}
			}
		}
	}
}

// Sub-caches are equal until they have cascadeWidth tokens; the first has what room there is beyond.
func TestCascadeWidths(t *testing.T) {
	for tokens, want := range map[int][]int{4: {1, 1, 1, 1}, 7: {1, 1, 1, 1}, 191: {47, 47, 47, 47}, 192: {48, 48, 48, 48}, 1000: {856, 48, 48, 48}} {
		if got := (cascade{rings: 4}).widths(tokens); !slices.Equal(got, want) {
			t.Errorf("%d tokens: %v, want %v", tokens, got, want)
		}
	}
	if got := (cascade{rings: 1}).widths(1000); !slices.Equal(got, []int{1000}) {
		t.Errorf("one sub-cache of 1000 tokens: %v", got)
	}
}

// A full cascade reaches back (2^C − 1)/C times its size, give or take what a
// sub-cache waits for, whatever the scores.
func TestCascadeSpan(t *testing.T) {
	const size, steps = 32, 20000
	random := rand.New(rand.NewPCG(8, 9))
	scores := make([]float32, steps+1)
	for i := range scores {
		scores[i] = random.Float32()
	}
	for _, rings := range []int{1, 2, 3, 4, 6} {
		p := cascade{rings: rings}
		held, width := make([][]int32, rings), slices.Repeat([]int{size}, rings)
		for step := 1; step <= steps; step++ {
			p.insert(held, int32(step), step, width, scores)
		}
		span := steps + 1 - int(held[rings-1][0])
		want := size * (1<<rings - 1)
		if !(span > want-2<<rings && span < want+2<<rings) {
			t.Errorf("%d sub-caches of %d reach back %d tokens, want about %d", rings, size, span, want)
		}
	}
}

// One sub-cache is sinks and a sliding window, numbered anew: StreamingLLM.
func TestCascadeOfOneIsStreaming(t *testing.T) {
	q, k, v := noise(150, 10)
	r := newStoredRun(t, Cascade, 24, 1, q, k, v)
	r.s.policy = cascade{rings: 1}
	r.all(1)
	streaming := newStoredRun(t, Streaming, 24, 1, q, k, v).all(1)
	if fmt.Sprint(r.order) != fmt.Sprint(streaming.order) {
		t.Error("other tokens leave than of sinks and a window")
	}
	for i, x := range streaming.out {
		if d := r.out[i] - x; !(max(d, -d) <= 1e-4) {
			t.Fatalf("output %d is %v, want %v", i, r.out[i], x)
		}
	}
}

// A sub-cache accepts every so many steps; between them the token that is carried on
// takes the place of the newest there if it has at least its score, and is lost
// otherwise.
func TestCascadeCompares(t *testing.T) {
	for _, test := range []struct {
		score float32 // of the token that comes to sub-cache 1 at step 5, against 1
		want  string
	}{{0.5, "[[4 5] [1 2]]"}, {1, "[[4 5] [1 3]]"}} {
		p, rings := cascade{rings: 2}, make([][]int32, 2)
		scores := []float32{0, 1, 1, test.score, 1, 1}
		for step := 1; step <= 5; step++ {
			p.insert(rings, int32(step), step, []int{2, 2}, scores)
		}
		if got := fmt.Sprint(rings); got != test.want {
			t.Errorf("score %v: %s, want %s", test.score, got, test.want)
		}
	}
}
