package cpu

import (
	"fmt"
	"math"

	"lessrag/lesskernels"
)

// Maps are the feature maps of one layer (see lesskernels.FeatureMap), packed
// once for an instruction set. The first layer's weights, nine tenths of all,
// are kept as bf16, of half the bytes that a step reads; the others stay
// float32. A map that was rounded to bf16 when it was written loses nothing.
//
// The features of a row are computed by the same sequence of operations
// whatever the number of rows beside it.
type Maps struct {
	shape   lesskernels.FeatureShape
	isa     ISA
	queries []twoLayers // [heads]
	keys    []twoLayers // [kvHeads]
	residue []residual  // [kvHeads]
	fading  []fading    // [kvHeads]
}

// residual is what follows the two layers of ψ: a = |s1|⊙x, then |a + (a·w3)⊙s2|.
type residual struct {
	s1, s2 []float32 // [R], s1 without its sign
	w3     []float32 // [R, R]
}

// PackMaps packs a layer's maps.
func PackMaps(f *lesskernels.FeatureMap, isa ISA) *Maps {
	m := &Maps{shape: f.FeatureShape, isa: isa}
	first, second := f.HeadDim*f.Hidden, f.Hidden*f.Rank
	for h := range f.Heads {
		m.queries = append(m.queries, packTwoLayers(f.Wq1[h*first:][:first], f.Wq2[h*second:][:second], f.FeatureShape, isa))
	}
	for h := range f.KVHeads {
		m.keys = append(m.keys, packTwoLayers(f.Wk1[h*first:][:first], f.Wk2[h*second:][:second], f.FeatureShape, isa))
		r := residual{
			s1: make([]float32, f.Rank),
			s2: f.S2[h*f.Rank:][:f.Rank],
			w3: f.Wk3[h*f.Rank*f.Rank:][:f.Rank*f.Rank],
		}
		for i, x := range f.S1[h*f.Rank:][:f.Rank] {
			r.s1[i] = abs(x)
		}
		m.residue, m.fading = append(m.residue, r), append(m.fading, newFading(f.Rates(h)))
	}
	return m
}

// Shape is the sizes of the maps.
func (m *Maps) Shape() lesskernels.FeatureShape { return m.shape }

// Bytes is the memory that the packed maps take.
func (m *Maps) Bytes() int64 {
	bytes := int64(0)
	for _, layers := range [][]twoLayers{m.queries, m.keys} {
		for i := range layers {
			bytes += layers[i].bytes()
		}
	}
	return bytes + 4*int64(len(m.residue)*m.shape.Rank*(2+m.shape.Rank))
}

// Phi writes φ [n, group, R] of n rows of the query heads of a KV head:
// q [n, group, headDim] f32, in the form (pre- or post-RoPE) that the maps were
// trained on, without the scale of attention.
func (m *Maps) Phi(dst []float32, kvHead int, q []float32, n int, s *Scratch) {
	if n == 0 {
		return
	}
	group := m.shape.Heads / m.shape.KVHeads
	m.check("phi", dst, q, n*group)
	for g := range group {
		m.queries[kvHead*group+g].run(m.isa, dst[g*m.shape.Rank:], q[g*m.shape.HeadDim:], n, group, s)
	}
	for i, x := range dst[:n*group*m.shape.Rank] {
		dst[i] = abs(x)
	}
}

// Psi writes ψ [n, R] of n keys k [n, headDim] f32 of a KV head, in the form
// that the maps were trained on.
func (m *Maps) Psi(dst []float32, kvHead int, k []float32, n int, s *Scratch) {
	m.check("psi", dst, k, n)
	m.keys[kvHead].run(m.isa, dst, k, n, 1, s)
	r, rank := m.residue[kvHead], m.shape.Rank
	a := s.floats(rank)
	for i := range n {
		row := dst[i*rank:][:rank]
		for j, x := range row {
			a[j] = r.s1[j] * x
		}
		clear(row)
		for j, x := range a {
			axpy(row, x, r.w3[j*rank:][:rank])
		}
		for j, x := range row {
			row[j] = abs(a[j] + x*r.s2[j])
		}
	}
}

// check panics when shapes disagree: a broken invariant of the caller.
func (m *Maps) check(what string, dst, x []float32, rows int) {
	if len(dst) < rows*m.shape.Rank || len(x) < rows*m.shape.HeadDim {
		panic(fmt.Sprintf("cpu: %s of %d rows of %d, rank %d: dst %d, x %d values",
			what, rows, m.shape.HeadDim, m.shape.Rank, len(dst), len(x)))
	}
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
