// Package train learns the feature maps of LESS (arXiv 2402.09398, §3.3) for
// one layer of a frozen model: which tokens a policy evicts and when, the loss
// of the attention that is left with a state in their place, its gradient
// written by hand, and Adam.
//
// Eviction is monotone, so a sample stores the order in which tokens leave
// instead of a mask, and loss and gradient walk that order once with running
// sums: O(tokens·R·headDim) in place of products of all rows with all tokens.
package train

import "fmt"

// Shape is what the samples of a layer have in common.
type Shape struct {
	Heads, KVHeads, HeadDim int
}

// Group is how many query heads share a KV head.
func (s Shape) Group() int { return s.Heads / s.KVHeads }

// Width is that of all heads' attention side by side.
func (s Shape) Width() int { return s.Heads * s.HeadDim }

// Sample is what one sequence under one policy tells about a layer: some rows,
// that is positions in rising order, and the tokens that left before them.
type Sample struct {
	Rows    int
	Q       []float32 // [heads, rows, headDim] inputs of φ
	LSE     []float32 // [heads, rows] natural log-sum-exp over what the policy keeps
	Sparse  []float32 // [rows, heads, headDim] attention over what the policy keeps
	Exact   []float32 // [rows, heads, headDim] attention over all tokens; nil where it is not known
	At      []int32   // [rows] positions, rising
	Evicted []Evicted // [kvHeads]
}

// Evicted are the tokens of a KV head that left, in the order in which they did.
type Evicted struct {
	K      []float32 // [n, headDim] inputs of ψ
	V      []float32 // [n, headDim]
	Before []int32   // [rows] how many of them are gone when a row attends; never falls
	At     []int32   // [n] their positions
}

// check panics where a sample and the shape disagree: both are made by us.
func (s *Sample) check(shape Shape) {
	wide := s.Rows * shape.Width()
	if s.Rows < 1 || len(s.Q) != wide || len(s.Sparse) != wide || s.Exact != nil && len(s.Exact) != wide ||
		len(s.LSE) != s.Rows*shape.Heads || len(s.At) != s.Rows || len(s.Evicted) != shape.KVHeads {
		panic(fmt.Sprintf("train: a sample of %d rows with %d, %d, %d and %d numbers and %d KV heads, for %+v",
			s.Rows, len(s.Q), len(s.Sparse), len(s.Exact), len(s.LSE), len(s.Evicted), shape))
	}
	for _, e := range s.Evicted {
		n := len(e.K) / shape.HeadDim
		if len(e.K) != len(e.V) || len(e.At) != n || len(e.Before) != s.Rows || int(e.Before[s.Rows-1]) > n {
			panic(fmt.Sprintf("train: %d and %d numbers of evicted tokens, %d of them before the last of %d rows",
				len(e.K), len(e.V), e.Before[len(e.Before)-1], s.Rows))
		}
	}
}
