package cpu

import "math"

// fading is how fast the features of a KV head fade: see lesskernels.FeatureMap.
type fading struct {
	rates []float64 // [R] λ; nil: none fades
	near  []float32 // [fadeSpan, R] e^(−λ·i)
}

// fadeSpan is the ages for which e^(−λ·age) is looked up; of others it is a product of two.
const fadeSpan = 64

func newFading(rates []float64) fading {
	f := fading{rates: rates}
	for i := range fadeSpan {
		for _, rate := range rates {
			f.near = append(f.near, left(rate, i))
		}
	}
	return f
}

// left is e^(−λ·age), and 0 from e^(−60) on, far below lesskernels.Epsilon: numbers that float32 holds as
// denormal ones would take long.
func left(rate float64, age int) float32 {
	if x := rate * float64(age); x < 60 {
		return float32(math.Exp(-x))
	}
	return 0
}

// Fades tells whether features of these maps fade with the distance between a token and a query.
func (m *Maps) Fades() bool { return m.fading[0].rates != nil }

// Fade multiplies features of a KV head, x [n, width, R], by e^(−λ·age), where age(i) is that of row i.
// The bits of a row do not depend on those beside it.
func (m *Maps) Fade(x []float32, kvHead, width, n int, age func(i int) int) {
	f, rank, last := &m.fading[kvHead], m.shape.Rank, 0
	if f.rates == nil {
		return
	}
	far := make([]float32, 0, 16) // e^(−λ·fadeSpan·last)
	for range rank {
		far = append(far, 1)
	}
	for i := range n {
		old := age(i)
		if spans := old >> 6; spans != last { // fadeSpan is 2^6
			last = spans
			for r, rate := range f.rates {
				far[r] = left(rate, fadeSpan*spans)
			}
		}
		near := f.near[old&(fadeSpan-1)*rank:][:rank]
		for w := range width {
			row := x[(i*width+w)*rank:][:rank]
			for r := range row {
				row[r] *= far[r] * near[r]
			}
		}
	}
}

// Rates is how fast the features of a KV head fade [R]; nil: none does.
func (m *Maps) Rates(kvHead int) []float64 { return m.fading[kvHead].rates }

// FadeSums lets sums over features that fade at rates [R], h [R, headDim] and z [R], grow older by so many positions.
func FadeSums(rates []float64, h, z []float32, by int) {
	dim := len(h) / len(z)
	for r, rate := range rates {
		left := left(rate, by)
		z[r] *= left
		for i := range h[r*dim : (r+1)*dim] {
			h[r*dim+i] *= left
		}
	}
}
