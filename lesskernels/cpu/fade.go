package cpu

import "math"

// Fades tells whether features of these maps fade with the distance between a token and a query: see
// lesskernels.FeatureMap.
func (m *Maps) Fades() bool { return m.rates[0] != nil }

// Fade multiplies features of a KV head, x [n, width, R], by e^(−λ·age), where age(i) is that of the
// row i. The bits of a row do not depend on those beside it.
func (m *Maps) Fade(x []float32, kvHead, width, n int, age func(i int) int) {
	rates, rank := m.rates[kvHead], m.shape.Rank
	for i := range n {
		old := float64(age(i))
		for r, rate := range rates {
			left := float32(math.Exp(-rate * old))
			for w := range width {
				x[(i*width+w)*rank+r] *= left
			}
		}
	}
}

// FadeSums lets sums over features of a KV head, h [R, headDim] and z [R], grow older by so many positions.
func (m *Maps) FadeSums(h, z []float32, kvHead, by int) {
	dim := len(h) / len(z)
	for r, rate := range m.rates[kvHead] {
		left := float32(math.Exp(-rate * float64(by)))
		z[r] *= left
		for i := range h[r*dim : (r+1)*dim] {
			h[r*dim+i] *= left
		}
	}
}
