package lesskernels

import (
	"fmt"
	"math"
)

// FeatureMap is one layer's pair of learned kernels (arXiv 2402.09398, §3.2;
// no biases; GELU is the erf form):
//
//	φ(q) = | gelu(gelu(q·Wq1)·Wq2) |                 per query head
//	a    = |s1| ⊙ gelu(gelu(k·Wk1)·Wk2)              per KV head
//	ψ(k) = | a + (a·Wk3) ⊙ s2 |
//
// The scale of attention scores is not applied to q.
//
// Beyond the paper, features may fade: feature r of a token at position p counts e^(−λ_r·(t−p)) of what
// it did to a query at position t, as retention does (RetNet, arXiv 2307.08621), with rates of its own
// for every KV head. The inputs of φ and ψ know of no positions; the rates are how they are told which
// tokens are old.
type FeatureMap struct {
	FeatureShape
	FeatureWeights
}

// FeatureShape is the sizes of a feature map.
type FeatureShape struct {
	Heads   int `json:"heads"`    // query heads
	KVHeads int `json:"kv_heads"` // divides Heads
	HeadDim int `json:"head_dim"`
	Hidden  int `json:"hidden"`
	Rank    int `json:"rank"` // R
}

// FeatureWeights are the learned numbers; a row vector times a matrix.
type FeatureWeights struct {
	Wq1    []float32 // [heads, headDim, hidden]
	Wq2    []float32 // [heads, hidden, R]
	Wk1    []float32 // [kvHeads, headDim, hidden]
	Wk2    []float32 // [kvHeads, hidden, R]
	Wk3    []float32 // [kvHeads, R, R]
	S1, S2 []float32 // [kvHeads, R]
	Fade   []float32 // [kvHeads, R] ln λ, λ in nats per token; nil: no feature fades
}

// FastestFade is the highest rate λ: a feature that fades faster would say nothing of tokens that a cache
// has evicted, which are older than those that it keeps for being recent.
const FastestFade = 1.0 / 50

// NewFeatureMap joins weights to their shape. It refuses sizes that are not
// positive, query heads that KV heads do not divide, and lengths that disagree.
func NewFeatureMap(s FeatureShape, w FeatureWeights) (*FeatureMap, error) {
	if s.Heads <= 0 || s.KVHeads <= 0 || s.HeadDim <= 0 || s.Hidden <= 0 || s.Rank <= 0 {
		return nil, fmt.Errorf("lesskernels: feature map %+v: every size must be positive", s)
	}
	if s.Heads%s.KVHeads != 0 {
		return nil, fmt.Errorf("lesskernels: feature map: %d query heads are no multiple of %d KV heads", s.Heads, s.KVHeads)
	}
	for _, t := range []struct {
		name   string
		values []float32
		sizes  [3]int
	}{
		{"Wq1", w.Wq1, [3]int{s.Heads, s.HeadDim, s.Hidden}},
		{"Wq2", w.Wq2, [3]int{s.Heads, s.Hidden, s.Rank}},
		{"Wk1", w.Wk1, [3]int{s.KVHeads, s.HeadDim, s.Hidden}},
		{"Wk2", w.Wk2, [3]int{s.KVHeads, s.Hidden, s.Rank}},
		{"Wk3", w.Wk3, [3]int{s.KVHeads, s.Rank, s.Rank}},
		{"S1", w.S1, [3]int{s.KVHeads, s.Rank, 1}},
		{"S2", w.S2, [3]int{s.KVHeads, s.Rank, 1}},
	} {
		if want := t.sizes[0] * t.sizes[1] * t.sizes[2]; len(t.values) != want {
			return nil, fmt.Errorf("lesskernels: feature map: %s %v needs %d values, got %d", t.name, t.sizes, want, len(t.values))
		}
	}
	if n := len(w.Fade); n != 0 && n != s.KVHeads*s.Rank {
		return nil, fmt.Errorf("lesskernels: feature map: Fade needs %d values or none, got %d", s.KVHeads*s.Rank, n)
	}
	return &FeatureMap{s, w}, nil
}

// Rates are λ [R] of a KV head's features; nil: none fades.
func (f *FeatureMap) Rates(kvHead int) []float64 {
	if len(f.Fade) == 0 {
		return nil
	}
	rates := make([]float64, f.Rank)
	for r, x := range f.Fade[kvHead*f.Rank:][:f.Rank] {
		rates[r] = min(math.Exp(float64(x)), FastestFade)
	}
	return rates
}

// Phi writes φ(q) [R] of a query head to dst.
func (f *FeatureMap) Phi(dst []float32, head int, q []float32) {
	hidden := product(q[:f.HeadDim], f.Wq1[head*f.HeadDim*f.Hidden:], f.Hidden, gelu)
	for r, x := range product(hidden, f.Wq2[head*f.Hidden*f.Rank:], f.Rank, gelu) {
		dst[r] = abs32(x)
	}
}

// Psi writes ψ(k) [R] of a KV head to dst.
func (f *FeatureMap) Psi(dst []float32, kvHead int, k []float32) {
	hidden := product(k[:f.HeadDim], f.Wk1[kvHead*f.HeadDim*f.Hidden:], f.Hidden, gelu)
	a := product(hidden, f.Wk2[kvHead*f.Hidden*f.Rank:], f.Rank, gelu)
	s1, s2 := f.S1[kvHead*f.Rank:][:f.Rank], f.S2[kvHead*f.Rank:][:f.Rank]
	for r := range a {
		a[r] *= abs32(s1[r])
	}
	residual := product(a, f.Wk3[kvHead*f.Rank*f.Rank:], f.Rank, func(x float64) float64 { return x })
	for r, x := range a {
		dst[r] = abs32(x + residual[r]*s2[r])
	}
}

// product is then(x · w) for a row x and w [len(x), cols].
func product(x, w []float32, cols int, then func(float64) float64) []float32 {
	out := make([]float32, cols)
	for c := range out {
		sum := 0.0
		for i, v := range x {
			sum += float64(v) * float64(w[i*cols+c])
		}
		out[c] = float32(then(sum))
	}
	return out
}

// gelu is x·Φ(x), Φ the normal distribution (arXiv 1606.08415).
func gelu(x float64) float64 { return 0.5 * x * (1 + math.Erf(x/math.Sqrt2)) }

func abs32(x float32) float32 { return float32(math.Abs(float64(x))) }
