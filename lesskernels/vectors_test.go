package lesskernels

import (
	"math"
	"slices"
	"testing"

	"lessrag/lesskernels/vectortest"
)

// vectors are float64 results of an independent program, in
// testdata/less_h2o_small.json.gz: 48 tokens, 6 query heads, 2 KV heads.
type vectors map[string]tensor

type tensor struct {
	Shape []int     `json:"shape"`
	Data  []float64 `json:"data"`
}

const (
	vHeads, vKVHeads, vHeadDim, vHidden, vRank = 6, 2, 16, 32, 8
	vTokens, vHeavy, vRecent, vGroup           = 48, 6, 6, vHeads / vKVHeads
)

func readVectors(t *testing.T) vectors {
	t.Helper()
	v := vectors{}
	vectortest.Read(t, "testdata/less_h2o_small.json.gz", &v)
	return v
}

// f32 returns a tensor after checking its shape.
func (v vectors) f32(t *testing.T, name string, shape ...int) []float32 {
	t.Helper()
	x, ok := v[name]
	if !ok || !slices.Equal(x.Shape, shape) {
		t.Fatalf("%s has shape %v, want %v", name, x.Shape, shape)
	}
	out := make([]float32, len(x.Data))
	for i, d := range x.Data {
		out[i] = float32(d)
	}
	return out
}

func (v vectors) featureMap(t *testing.T) *FeatureMap {
	t.Helper()
	f, err := NewFeatureMap(FeatureShape{vHeads, vKVHeads, vHeadDim, vHidden, vRank}, FeatureWeights{
		Wq1: v.f32(t, "Wq1", vHeads, vHeadDim, vHidden),
		Wq2: v.f32(t, "Wq2", vHeads, vHidden, vRank),
		Wk1: v.f32(t, "Wk1", vKVHeads, vHeadDim, vHidden),
		Wk2: v.f32(t, "Wk2", vKVHeads, vHidden, vRank),
		Wk3: v.f32(t, "Wk3", vKVHeads, vRank, vRank),
		S1:  v.f32(t, "s1", vKVHeads, vRank),
		S2:  v.f32(t, "s2", vKVHeads, vRank),
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// near fails at the first number that is farther than tol, relative to 1.
func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s has %d values, want %d", what, len(got), len(want))
	}
	for i, g := range got {
		if diff := math.Abs(float64(g) - want[i]); !(diff <= tol*(1+math.Abs(want[i]))) {
			t.Fatalf("%s[%d] = %v, want %v", what, i, g, want[i])
		}
	}
}

// TestFeatureMap checks φ and ψ of every token and head.
func TestFeatureMap(t *testing.T) {
	v := readVectors(t)
	f := v.featureMap(t)
	q, k := v.f32(t, "q", vTokens, vHeads, vHeadDim), v.f32(t, "k", vTokens, vKVHeads, vHeadDim)
	phi, psi := make([]float32, vTokens*vHeads*vRank), make([]float32, vTokens*vKVHeads*vRank)
	for i := range vTokens * vHeads {
		f.Phi(phi[i*vRank:][:vRank], i%vHeads, q[i*vHeadDim:])
	}
	for i := range vTokens * vKVHeads {
		f.Psi(psi[i*vRank:][:vRank], i%vKVHeads, k[i*vHeadDim:])
	}
	near(t, "phi", phi, v["phi"].Data, 1e-6)
	near(t, "psi", psi, v["psi"].Data, 1e-6)
}

func TestNewFeatureMapRefuses(t *testing.T) {
	v := readVectors(t)
	good := v.featureMap(t)
	for name, change := range map[string]func(*FeatureShape, *FeatureWeights){
		"rank 0":          func(s *FeatureShape, _ *FeatureWeights) { s.Rank = 0 },
		"heads":           func(s *FeatureShape, _ *FeatureWeights) { s.KVHeads = 4 },
		"a short Fade":    func(s *FeatureShape, w *FeatureWeights) { w.Fade = make([]float32, s.KVHeads*s.Rank-1) },
		"a short S2":      func(_ *FeatureShape, w *FeatureWeights) { w.S2 = w.S2[1:] },
		"a missing Wk3":   func(_ *FeatureShape, w *FeatureWeights) { w.Wk3 = nil },
		"swapped weights": func(_ *FeatureShape, w *FeatureWeights) { w.Wq1, w.Wk1 = w.Wk1, w.Wq1 },
	} {
		s, w := good.FeatureShape, good.FeatureWeights
		change(&s, &w)
		if _, err := NewFeatureMap(s, w); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Rates are no higher than the fastest, and those of another KV head are others.
func TestRates(t *testing.T) {
	m := someMaps(F32)
	if rates := m.Layers[0].Rates(1); rates != nil {
		t.Errorf("a map whose features do not fade has the rates %v", rates)
	}
	for kvHead, want := range [][]float64{{math.Exp(-5), math.Exp(-6)}, {1. / 50, math.Exp(-10)}} {
		if got := m.Layers[1].Rates(kvHead); !slices.Equal(got, want) {
			t.Errorf("KV head %d: rates %v, want %v", kvHead, got, want)
		}
	}
}

// TestAttendDense checks exact causal attention.
func TestAttendDense(t *testing.T) {
	v := readVectors(t)
	q, k, val := v.f32(t, "q", vTokens, vHeads, vHeadDim), v.f32(t, "k", vTokens, vKVHeads, vHeadDim), v.f32(t, "v", vTokens, vKVHeads, vHeadDim)
	var out []float32
	for i := range vTokens * vHeads {
		token, kvHead := i/vHeads, i%vHeads/vGroup
		var keys, values []float32
		for s := range token + 1 {
			keys = append(keys, row(k, s, kvHead)...)
			values = append(values, row(val, s, kvHead)...)
		}
		p, _ := Attend(q[i*vHeadDim:][:vHeadDim], keys, values, 0.25)
		out = append(out, p.Out...)
	}
	near(t, "dense_out", out, v["dense_out"].Data, 1e-6)
}

// row is a token's vector of a KV head.
func row(x []float32, token, kvHead int) []float32 {
	return x[(token*vKVHeads+kvHead)*vHeadDim:][:vHeadDim]
}

// TestH2OWithLESS runs H2O eviction (arXiv 2306.14048) token by token, absorbs
// what it evicts, and checks outputs, order of eviction, scores and state.
func TestH2OWithLESS(t *testing.T) {
	v := readVectors(t)
	f := v.featureMap(t)
	q, k, val := v.f32(t, "q", vTokens, vHeads, vHeadDim), v.f32(t, "k", vTokens, vKVHeads, vHeadDim), v.f32(t, "v", vTokens, vKVHeads, vHeadDim)
	state := NewLowRank(vKVHeads, vRank, vHeadDim)
	score := make([]float32, vKVHeads*vTokens)
	kept := make([][]int, vKVHeads)
	out, plain, lse := make([]float32, len(q)), make([]float32, len(q)), make([]float32, vTokens*vHeads)
	var order []float64
	psi, phi := make([]float32, vRank), make([]float32, vRank)
	for token := range vTokens {
		for h := range vKVHeads {
			for token >= vHeavy+vRecent {
				lowest, pool := lowestScore(kept[h], score[h*vTokens:], token-vRecent)
				if pool <= vHeavy {
					break
				}
				f.Psi(psi, h, row(k, lowest, h))
				state.Absorb(h, psi, row(val, lowest, h))
				kept[h] = slices.DeleteFunc(kept[h], func(i int) bool { return i == lowest })
				order = append(order, float64(token), float64(h), float64(lowest))
			}
			kept[h] = append(kept[h], token)
			var keys, values []float32
			for _, i := range kept[h] {
				keys, values = append(keys, row(k, i, h)...), append(values, row(val, i, h)...)
			}
			for g := range vGroup {
				i := token*vHeads + h*vGroup + g
				query := q[i*vHeadDim:][:vHeadDim]
				sparse, weights := Attend(query, keys, values, 0.25)
				copy(plain[i*vHeadDim:], sparse.Out)
				lse[i] = sparse.LSE
				for j, s := range kept[h] {
					score[h*vTokens+s] += float32(weights[j])
				}
				f.Phi(phi, h*vGroup+g, query)
				low := Partial{Out: make([]float32, vHeadDim)}
				state.Query(&low, h, phi)
				sparse.Merge(low)
				copy(out[i*vHeadDim:], sparse.Out)
			}
		}
	}
	near(t, "h2o_evict_order", toF32(order), v["h2o_evict_order"].Data, 0)
	near(t, "h2o_nolowrank_out", plain, v["h2o_nolowrank_out"].Data, 1e-6)
	near(t, "h2o_lse_sparse", lse, v["h2o_lse_sparse"].Data, 1e-6)
	near(t, "h2o_score", score, v["h2o_score"].Data, 1e-5)
	near(t, "h2o_H", state.H, v["h2o_H"].Data, 1e-5)
	near(t, "h2o_z", state.Z, v["h2o_z"].Data, 1e-5)
	near(t, "h2o_out", out, v["h2o_out"].Data, 1e-5)
}

// lowestScore finds the kept token below end with the lowest score, the first
// of equals, and how many there are.
func lowestScore(kept []int, score []float32, end int) (lowest, pool int) {
	lowest = -1
	for _, i := range kept {
		if i >= end {
			continue
		}
		pool++
		if lowest < 0 || score[i] < score[lowest] {
			lowest = i
		}
	}
	return lowest, pool
}

func toF32(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}
