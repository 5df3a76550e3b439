package train

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// walkSlowly follows one set of tokens with lesskernels.Attend: the order of
// evictions, and the attention of every row.
func walkSlowly(a *Attention, p Policy, kvHeads []int) (order, when []int32, partials map[[2]int]lesskernels.Partial) {
	partials = map[[2]int]lesskernels.Partial{}
	score := make([]float64, a.Tokens)
	var kept []int
	for position := range a.Tokens {
		if len(kept) > p.Budget {
			lowest := -1
			for _, i := range kept {
				switch {
				case p.Name == H2O && i >= position-p.Budget/2, p.Name == Sinks && (i < 4 || i >= position-(p.Budget-4)):
				case lowest < 0 || p.Name != Sinks && score[i] < score[lowest]:
					lowest = i
				}
			}
			order, when = append(order, int32(lowest)), append(when, int32(position))
			kept = slices.DeleteFunc(kept, func(i int) bool { return i == lowest })
		}
		kept = append(kept, position)
		if p.Name == TOVA {
			clear(score)
		}
		for _, kvHead := range kvHeads {
			var keys, values []float32
			for _, i := range kept {
				at := (kvHead*a.Tokens + i) * a.HeadDim
				keys, values = append(keys, a.K[at:at+a.HeadDim]...), append(values, a.V[at:at+a.HeadDim]...)
			}
			for head := kvHead * a.Group(); head < (kvHead+1)*a.Group(); head++ {
				partial, weights := lesskernels.Attend(a.Q[(position*a.Heads+head)*a.HeadDim:][:a.HeadDim], keys, values, float64(a.Scale))
				partials[[2]int{head, position}] = partial
				for j, i := range kept {
					score[i] += weights[j]
				}
			}
		}
	}
	return order, when, partials
}

func smallAttention() *Attention {
	rng := rand.New(rand.NewPCG(41, 42))
	a := &Attention{Shape: Shape{Heads: 6, KVHeads: 2, HeadDim: 5}, Tokens: 61, Scale: 0.6}
	for _, x := range []struct {
		to *[]float32
		n  int
	}{{&a.Q, 6}, {&a.K, 2}, {&a.V, 2}} {
		for range x.n * a.HeadDim * a.Tokens {
			*x.to = append(*x.to, float32(rng.NormFloat64()))
		}
	}
	return a
}

func comparePartials(t *testing.T, trace *Trace, a *Attention, want map[[2]int]lesskernels.Partial) {
	t.Helper()
	for i, row := range trace.Rows {
		for head := range a.Heads {
			w, ok := want[[2]int{head, row}]
			if !ok {
				continue
			}
			if lse := trace.LSE[head*len(trace.Rows)+i]; !(math.Abs(float64(lse-w.LSE)) <= 1e-5) {
				t.Fatalf("row %d head %d: log-sum-exp %v, want %v", row, head, lse, w.LSE)
			}
			for c, x := range w.Out {
				if got := trace.Out[i*a.Width()+head*a.HeadDim+c]; !(math.Abs(float64(got-x)) <= 1e-5) {
					t.Fatalf("row %d head %d: %v, want %v", row, head, got, x)
				}
			}
		}
	}
}

// TestWalk compares order of evictions and attention with the slow form.
func TestWalk(t *testing.T) {
	a, pool := smallAttention(), cpu.NewPool(2)
	defer pool.Close()
	rows := []int{0, 3, 17, 18, 40, 60}
	for _, p := range []Policy{{H2O, 9}, {H2O, 16}, {TOVA, 12}, {Sinks, 11}, {H2O, 70}} {
		trace := Walk(pool, a, p, rows)
		for _, kvHeads := range [][]int{{0}, {1}} {
			if p.Name == TOVA {
				kvHeads = []int{0, 1}
			}
			order, when, partials := walkSlowly(a, p, kvHeads)
			for _, kvHead := range kvHeads {
				if !slices.Equal(trace.Order[kvHead], order) || !slices.Equal(trace.When[kvHead], when) {
					t.Fatalf("%v: KV head %d evicts %v at %v, want %v at %v", p, kvHead, trace.Order[kvHead], trace.When[kvHead], order, when)
				}
			}
			comparePartials(t, trace, a, partials)
		}
	}
}

// TestCut keeps some tokens of a prompt, and those after it.
func TestCut(t *testing.T) {
	a, pool := smallAttention(), cpu.NewPool(1)
	defer pool.Close()
	keep := make([]bool, 40)
	for i := range keep {
		keep[i] = i%3 == 0 || i > 35
	}
	rows := []int{40, 47, 60}
	trace := Cut(pool, a, keep, rows)
	for kvHead := range a.KVHeads {
		var gone []int32
		for i, kept := range keep {
			if !kept {
				gone = append(gone, int32(i))
			}
		}
		if !slices.Equal(trace.Order[kvHead], gone) || slices.Min(trace.When[kvHead]) != 40 || slices.Max(trace.When[kvHead]) != 40 {
			t.Fatalf("KV head %d lets %v go at %v", kvHead, trace.Order[kvHead], trace.When[kvHead])
		}
		want := map[[2]int]lesskernels.Partial{}
		for _, row := range rows {
			var keys, values []float32
			for i := range row + 1 {
				if i >= len(keep) || keep[i] {
					at := (kvHead*a.Tokens + i) * a.HeadDim
					keys, values = append(keys, a.K[at:at+a.HeadDim]...), append(values, a.V[at:at+a.HeadDim]...)
				}
			}
			for head := kvHead * a.Group(); head < (kvHead+1)*a.Group(); head++ {
				want[[2]int{head, row}], _ = lesskernels.Attend(a.Q[(row*a.Heads+head)*a.HeadDim:][:a.HeadDim], keys, values, float64(a.Scale))
			}
		}
		comparePartials(t, trace, a, want)
	}
}

// TestSample checks that a sample's tokens are those that left, each at its row.
func TestSample(t *testing.T) {
	a, pool := smallAttention(), cpu.NewPool(1)
	defer pool.Close()
	preK := make([]float32, a.Tokens*a.KVHeads*a.HeadDim)
	for token := range a.Tokens {
		for kvHead := range a.KVHeads {
			preK[(token*a.KVHeads+kvHead)*a.HeadDim] = float32(100*kvHead + token)
		}
	}
	trace := Walk(pool, a, Policy{H2O, 9}, []int{9, 12, 50})
	s := trace.Sample(a, a.Q, preK, a.Q)
	s.check(a.Shape)
	for kvHead, e := range s.Evicted {
		// The budget is exceeded from position 10 on, by one token each.
		if !slices.Equal(e.Before, []int32{0, 3, 41}) || len(e.K) != 41*a.HeadDim {
			t.Fatalf("KV head %d: %v of %d tokens left", kvHead, e.Before, len(e.K)/a.HeadDim)
		}
		for i, token := range trace.Order[kvHead][:41] {
			if e.K[i*a.HeadDim] != float32(100*kvHead+int(token)) || e.V[i*a.HeadDim] != a.V[(kvHead*a.Tokens+int(token))*a.HeadDim] {
				t.Fatalf("KV head %d: token %d of the sample is not %d", kvHead, i, token)
			}
		}
	}
}

func TestParsePolicy(t *testing.T) {
	for text, want := range map[string]Policy{"h2o:128": {H2O, 128}, "sinks:60": {Sinks, 60}, "tova:5": {TOVA, 5}} {
		if got, err := ParsePolicy(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "h2o", "h2o:", "h2o:4", "h2o:-1", "vote:128", "h2o:9999999999", ":128"} {
		if _, err := ParsePolicy(text); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}
