package teach

import (
	"context"
	"math"

	"lessrag/decode/model"
	"lessrag/lesskernels"
	"lessrag/lesskernels/train"
)

// gates are the log-scales that a head may get; the first is off.
var gates = []float32{float32(math.Inf(-1)), -1.5, -0.7, 0, 0.4}

// ByError gates every KV head by the error of its layer on windows that were not
// trained on: the gate that wins back most of the policies' error on average,
// or off where none wins something back under every policy.
func (e *Evaluator) ByError(ctx context.Context, windows [][]int32, policies []train.Policy, rows int) ([][]float32, error) {
	left := make([][][]float64, e.config.Layers) // [layers][kvHeads][gates·policies] relative errors, added up
	n := make([]int, len(policies))
	for layer := range left {
		for range e.config.KVHeads {
			left[layer] = append(left[layer], make([]float64, len(gates)*len(policies)))
		}
	}
	others := make([]float32, e.config.KVHeads)
	for i, tokens := range windows {
		x, err := e.reader.Embed(tokens)
		if err != nil {
			return nil, err
		}
		turns := turnsOf(len(policies), i)
		for _, p := range turns {
			n[p]++
		}
		for layer := range e.config.Layers {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			e.reader.Layer(layer, x, func(h *model.Heads) {
				e.reader.Dense(h)
				a := attentionOf(e.config, h)
				l := train.NewLayer(e.maps[layer].FeatureShape, train.NewMetric(e.reader.Output(layer), e.config.Width, e.config.Heads*e.config.HeadDim))
				for _, p := range turns {
					chosen := someRows(uint64(i), h.Tokens, policies[p].Budget, rows)
					s := train.Walk(e.pool, a, policies[p], chosen).Sample(a, h.PreQ, h.PreK, h.Out)
					for kvHead, errors := range l.HeadErrors(e.maps[layer], others, gates, s) {
						for g, err := range errors {
							left[layer][kvHead][p*len(gates)+g] += err / errors[0]
						}
					}
				}
			})
		}
	}
	chosen := make([][]float32, e.config.Layers)
	for layer := range chosen {
		for kvHead := range e.config.KVHeads {
			chosen[layer] = append(chosen[layer], gates[bestGate(left[layer][kvHead], n)])
		}
	}
	return chosen, nil
}

// bestGate picks from the errors [policies, gates] of n windows each, relative to
// the state being off.
func bestGate(left []float64, n []int) int {
	best, most := 0, 0.0
	for g := 1; g < len(gates); g++ {
		won, harm := 0.0, false
		for p, windows := range n {
			if windows == 0 {
				continue
			}
			gain := 1 - left[p*len(gates)+g]/float64(windows)
			won += gain
			harm = harm || !(gain >= 0)
		}
		if !harm && won > most {
			best, most = g, won
		}
	}
	return best
}

// shifted adds to every gate.
func shifted(gate [][]float32, by float32) [][]float32 {
	out := make([][]float32, len(gate))
	for layer, row := range gate {
		for _, g := range row {
			out[layer] = append(out[layer], g+by)
		}
	}
	return out
}

// On counts the heads that have a state.
func On(gate [][]float32) int {
	n := 0
	for _, row := range gate {
		for _, g := range row {
			if !math.IsInf(float64(g), -1) {
				n++
			}
		}
	}
	return n
}

// ExtraTokens is how many tokens for each KV head the bytes of the states would
// hold: float32 sums against keys and values in bf16 and a position.
func ExtraTokens(s lesskernels.FeatureShape, on, heads int) int {
	state, slot := 4*s.Rank*(s.HeadDim+1), 4*s.HeadDim+4
	return int(math.Ceil(float64(state*on) / float64(slot*heads)))
}
