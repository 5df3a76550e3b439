package train

import "math"

// adam is the optimiser of arXiv 1412.6980.
type adam struct {
	mean, square []float32
	step         int
}

// Constants of Adam; its epsilon is far below the gradients of scales near 1e-4.
const (
	beta1, beta2 = 0.9, 0.999
	adamEpsilon  = 1e-12
)

func newAdam(n int) *adam { return &adam{mean: make([]float32, n), square: make([]float32, n)} }

// update moves x against the gradient.
func (a *adam) update(x, gradient []float32, rate float64) {
	a.step++
	rate1 := float32(rate / (1 - math.Pow(beta1, float64(a.step))))
	correct2 := float32(1 / (1 - math.Pow(beta2, float64(a.step))))
	for i, g := range gradient {
		m := beta1*a.mean[i] + (1-beta1)*g
		v := beta2*a.square[i] + (1-beta2)*g*g
		a.mean[i], a.square[i] = m, v
		x[i] -= rate1 * m / (float32(math.Sqrt(float64(v*correct2))) + adamEpsilon)
	}
}

// clip scales a gradient down to a norm of most, and returns its norm before.
func clip(gradient []float32, most float64) float64 {
	sum := 0.0
	for _, g := range gradient {
		sum += float64(g) * float64(g)
	}
	norm := math.Sqrt(sum)
	if norm > most {
		scale := float32(most / norm)
		for i := range gradient {
			gradient[i] *= scale
		}
	}
	return norm
}

// rateAt is the learning rate of a step: a rise over the first steps, and half
// a cosine down to zero.
func rateAt(step, steps, warmUp int, highest float64) float64 {
	rate := highest * 0.5 * (1 + math.Cos(math.Pi*float64(step)/float64(steps)))
	return rate * min(1, float64(step+1)/float64(warmUp))
}
