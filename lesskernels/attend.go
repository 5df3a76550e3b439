package lesskernels

import (
	"fmt"
	"math"
)

// Attend is the attention of one query q [headDim] over keys and values
// [slots, headDim], in float64: the oracle of every fast form. It also returns
// the softmax weights [slots], from which policies keep their statistics.
// Without slots the partial is empty.
func Attend(q, keys, values []float32, scale float64) (Partial, []float64) {
	headDim := len(q)
	if headDim == 0 || len(keys)%headDim != 0 || len(values) != len(keys) {
		panic(fmt.Sprintf("lesskernels: attend with %d query, %d key and %d value numbers", headDim, len(keys), len(values)))
	}
	weights := make([]float64, len(keys)/headDim)
	peak := math.Inf(-1)
	for t := range weights {
		for c, x := range q {
			weights[t] += float64(x) * float64(keys[t*headDim+c])
		}
		weights[t] *= scale
		peak = math.Max(peak, weights[t])
	}
	p := Partial{Out: make([]float32, headDim), LSE: float32(math.Inf(-1))}
	if len(weights) == 0 {
		return p, weights
	}
	total := 0.0
	for t := range weights {
		weights[t] = math.Exp(weights[t] - peak)
		total += weights[t]
	}
	out := make([]float64, headDim)
	for t := range weights {
		weights[t] /= total
		for c := range out {
			out[c] += weights[t] * float64(values[t*headDim+c])
		}
	}
	for c, x := range out {
		p.Out[c] = float32(x)
	}
	p.LSE = float32(peak + math.Log(total))
	return p, weights
}
