package train

import (
	"math"
	"slices"

	"lessrag/lesskernels/cpu"
)

// kernel is one head's two layers |gelu(gelu(x·W1)·W2)| for n inputs, with what
// its gradient needs. Rows of rank numbers are padded to a whole register.
type kernel struct {
	headDim, hidden, rank int
	wide                  int // rank padded

	n             int
	x             []float32 // [n, headDim]
	first, slope1 []float32 // [n, hidden] gelu(x·W1) and the slope there
	second        []float32 // [n, wide] gelu(first·W2)
	slope2        []float32 // [n, wide]
	w2, w2T, dW2  []float32 // [hidden, wide], [rank, hidden], [hidden, wide]
	back          []float32 // [n, hidden]
}

func newKernel(headDim, hidden, rank int) *kernel {
	return &kernel{headDim: headDim, hidden: hidden, rank: rank, wide: (rank + 15) &^ 15}
}

// sized returns a slice of n numbers, of the old memory where it suffices.
func sized(x []float32, n int) []float32 { return slices.Grow(x[:0], n)[:n] }

// forward computes second for n inputs x.
func (k *kernel) forward(w1, w2, x []float32, n int) {
	k.n, k.x = n, x
	k.first, k.slope1 = sized(k.first, n*k.hidden), sized(k.slope1, n*k.hidden)
	k.second, k.slope2 = sized(k.second, n*k.wide), sized(k.slope2, n*k.wide)
	k.w2 = sized(k.w2, k.hidden*k.wide)
	clear(k.w2)
	for i := range k.hidden {
		copy(k.w2[i*k.wide:], w2[i*k.rank:(i+1)*k.rank])
	}
	clear(k.first)
	cpu.AddProduct(cpu.Rows(k.first, k.hidden), cpu.Rows(x, k.headDim), cpu.Rows(w1, k.hidden), n, k.hidden, k.headDim)
	cpu.GELUSlope(k.first, k.slope1, k.first)
	clear(k.second)
	cpu.AddProduct(cpu.Rows(k.second, k.wide), cpu.Rows(k.first, k.hidden), cpu.Rows(k.w2, k.wide), n, k.wide, k.hidden)
	cpu.GELUSlope(k.second, k.slope2, k.second)
}

// backward adds the gradient of W1 and W2, given that of second, d [n, wide],
// which it uses up.
func (k *kernel) backward(dW1, dW2, w2, d []float32) {
	n := k.n
	for i, slope := range k.slope2 {
		d[i] *= slope
	}
	k.dW2 = sized(k.dW2, k.hidden*k.wide)
	clear(k.dW2)
	cpu.AddProduct(cpu.Rows(k.dW2, k.wide), cpu.Rows(k.first, k.hidden).T(), cpu.Rows(d, k.wide), k.hidden, k.wide, n)
	k.w2T = sized(k.w2T, k.rank*k.hidden)
	for i := range k.hidden {
		for r := range k.rank {
			dW2[i*k.rank+r] += k.dW2[i*k.wide+r]
			k.w2T[r*k.hidden+i] = w2[i*k.rank+r]
		}
	}
	k.back = sized(k.back, n*k.hidden)
	clear(k.back)
	cpu.AddProduct(cpu.Rows(k.back, k.hidden), cpu.Rows(d, k.wide), cpu.Rows(k.w2T, k.hidden), n, k.hidden, k.rank)
	for i, slope := range k.slope1 {
		k.back[i] *= slope
	}
	cpu.AddProduct(cpu.Rows(dW1, k.hidden), cpu.Rows(k.x, k.headDim).T(), cpu.Rows(k.back, k.hidden), k.headDim, k.hidden, n)
}

// signed is d with the sign of the number whose magnitude was taken; at 0 the
// slope of the magnitude counts as 0.
func signed(d, of float32) float32 {
	switch {
	case of > 0:
		return d
	case of < 0:
		return -d
	}
	return 0
}

func abs(x float32) float32 { return float32(math.Abs(float64(x))) }
