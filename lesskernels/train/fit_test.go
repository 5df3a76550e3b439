package train

import (
	"context"
	"errors"
	"math"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// TestAdam takes the first steps by hand: each is the rate, against the sign.
func TestAdam(t *testing.T) {
	x, a := []float32{1, 1, 1}, newAdam(3)
	for range 2 {
		a.update(x, []float32{3, -1e-6, 0}, 0.1)
	}
	for i, want := range []float64{0.8, 1.2, 1} {
		if !(math.Abs(float64(x[i])-want) <= 1e-5) {
			t.Errorf("number %d is %v, want %v", i, x[i], want)
		}
	}
}

func TestClip(t *testing.T) {
	g := []float32{3, 4}
	if norm := clip(g, 1); norm != 5 || !(math.Abs(float64(g[0])-0.6) <= 1e-6) || !(math.Abs(float64(g[1])-0.8) <= 1e-6) {
		t.Errorf("norm %v, clipped to %v", norm, g)
	}
	if clip(g, 2); !(math.Abs(float64(g[0])-0.6) <= 1e-6) {
		t.Errorf("a short gradient became %v", g)
	}
}

func TestRate(t *testing.T) {
	for _, c := range []struct {
		step int
		want float64
	}{{0, 0.1}, {10, 1}, {50, 0.5}, {100, 0}} {
		if got := rateAt(c.step, 100, 10, 1); !(math.Abs(got-c.want) <= 0.03) {
			t.Errorf("step %d: rate %v, want %v", c.step, got, c.want)
		}
	}
}

// exactAttention is over all tokens: a budget that holds them all.
func exactAttention(pool *cpu.Pool, a *Attention) []float32 {
	rows := make([]int, a.Tokens)
	for i := range rows {
		rows[i] = i
	}
	return Walk(pool, a, Policy{H2O, a.Tokens}, rows).Out
}

// TestFitWinsBack trains a small layer on random attention and expects it to
// win back some of the policy's error, on what was held out too; the same seed
// gives the same map.
func TestFitWinsBack(t *testing.T) {
	pool := cpu.NewPool(1)
	defer pool.Close()
	a := smallAttention()
	exact := exactAttention(pool, a)
	sample := func(rows []int) *Sample {
		return Walk(pool, a, Policy{H2O, 9}, rows).Sample(a, a.Q, transposed(a), exact)
	}
	train, heldOut := []*Sample{sample([]int{20, 30, 40, 50, 60}), sample([]int{25, 35, 45, 55})}, []*Sample{sample([]int{33, 44, 58})}
	shape := lesskernels.FeatureShape{Heads: 6, KVHeads: 2, HeadDim: 5, Hidden: 16, Rank: 3}
	identity := make([]float32, a.Width()*a.Width())
	for i := range a.Width() {
		identity[i*a.Width()+i] = 1
	}
	o := Recipe
	o.Epochs, o.Patience = 60, 60
	metric := NewMetric(identity, a.Width(), a.Width())
	fitted, err := Fit(context.Background(), shape, metric, train, heldOut, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("won back %.2f in training, %.2f held out, at epoch %d of %d", 1-fitted.Train, fitted.Recovered(), fitted.BestEpoch, fitted.Epochs)
	if !(1-fitted.Train > 0.2) || !(fitted.Recovered() > 0.1) {
		t.Errorf("won back %v in training and %v held out", 1-fitted.Train, fitted.Recovered())
	}
	again, err := Fit(context.Background(), shape, metric, train, heldOut, o)
	if err != nil || again.Map.Wq1[7] != fitted.Map.Wq1[7] || again.Train != fitted.Train {
		t.Errorf("a second run differs (%v)", err)
	}

	out := make([]float32, len(heldOut[0].Sparse))
	off := float32(math.Inf(-1))
	layer := NewLayer(shape, metric)
	layer.Attend(pool, out, fitted.Map, []float32{off, off}, heldOut[0])
	for i, x := range heldOut[0].Sparse {
		if out[i] != x {
			t.Fatalf("states that are off change number %d from %v to %v", i, x, out[i])
		}
	}
	errors := layer.HeadErrors(fitted.Map, []float32{0, 0}, []float32{off, 0}, heldOut[0])
	want := (1 - fitted.Recovered()) * metric.Policy(heldOut[0])
	for kvHead, e := range errors {
		if !(math.Abs(e[1]-want) <= 1e-4*want) || !(e[0] != e[1]) {
			t.Errorf("KV head %d: errors %v, want %v with its state", kvHead, e, want)
		}
	}
}

// transposed are the keys as a capture gives them: [tokens, kvHeads, headDim].
func transposed(a *Attention) []float32 {
	out := make([]float32, len(a.K))
	for kvHead := range a.KVHeads {
		for token := range a.Tokens {
			copy(out[(token*a.KVHeads+kvHead)*a.HeadDim:], a.K[(kvHead*a.Tokens+token)*a.HeadDim:][:a.HeadDim])
		}
	}
	return out
}

func TestFitRefuses(t *testing.T) {
	f, shape, s, _ := readFixture(t)
	metric := NewMetric(f.WO, f.Outputs, f.Heads*f.HeadDim)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Fit(ctx, shape, metric, []*Sample{s}, []*Sample{s}, Recipe); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Fit(context.Background(), shape, metric, []*Sample{s}, nil, Recipe); err == nil {
		t.Error("nothing held out: accepted")
	}
	perfect := *s
	perfect.Sparse = perfect.Exact
	if _, err := Fit(context.Background(), shape, metric, []*Sample{&perfect}, []*Sample{s}, Recipe); err == nil {
		t.Error("a policy without an error: accepted")
	}
}
