package teach

import (
	"context"
	"math"
	"slices"

	"lessrag/decode/model"
	"lessrag/lesskernels"
	"lessrag/lesskernels/train"
)

// gates are the log-scales that a head may get; the first is off.
var gates = []float32{float32(math.Inf(-1)), -1.5, -0.7, 0, 0.4}

// ByError gates every KV head, for each policy by its name, by the error of its
// layer on windows that were not trained on: the gate that wins back most of the
// error on average over the name's budgets, or off where none wins something back
// with every budget.
func (e *Evaluator) ByError(ctx context.Context, windows [][]int32, policies []train.Policy, rows int) (map[string][][]float32, error) {
	left := make([][][]float64, e.config.Layers) // [layers][kvHeads][policies·gates] relative errors, added up
	for layer := range left {
		for range e.config.KVHeads {
			left[layer] = append(left[layer], make([]float64, len(policies)*len(gates)))
		}
	}
	others := make([]float32, e.config.KVHeads)
	for i, tokens := range windows {
		x, err := e.reader.Embed(tokens)
		if err != nil {
			return nil, err
		}
		for layer := range e.config.Layers {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			e.reader.Layer(layer, x, func(h *model.Heads) {
				e.reader.Dense(h)
				a := attentionOf(e.config, h)
				l := train.NewLayer(e.maps[layer].FeatureShape, train.NewMetric(e.reader.Output(layer), e.config.Width, e.config.Heads*e.config.HeadDim))
				for p, policy := range policies {
					chosen := someRows(uint64(i), h.Tokens, policy.Budget, rows)
					s := train.Walk(e.pool, a, policy, chosen).Sample(a, h.PreQ, h.PreK, h.Out)
					for kvHead, errors := range l.HeadErrors(e.maps[layer], others, gates, s) {
						for g, err := range errors {
							left[layer][kvHead][p*len(gates)+g] += err / errors[0]
						}
					}
				}
			})
		}
	}
	chosen := map[string][][]float32{}
	for _, name := range names(policies) {
		rows := make([][]float32, e.config.Layers)
		for layer := range rows {
			for kvHead := range e.config.KVHeads {
				var budgets [][]float64
				for p, errors := range slices.Collect(slices.Chunk(left[layer][kvHead], len(gates))) {
					if policies[p].Name == name {
						budgets = append(budgets, errors)
					}
				}
				rows[layer] = append(rows[layer], gates[bestGate(budgets, len(windows))])
			}
		}
		chosen[name] = rows
	}
	return chosen, nil
}

// names of policies, each once, in their order.
func names(policies []train.Policy) []string {
	var names []string
	for _, p := range policies {
		if !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names
}

// Least is, for each KV head, the least of several gates: off where one is off.
func Least(some ...[][]float32) [][]float32 {
	least := Shifted(some[0], 0)
	for _, gate := range some[1:] {
		for layer, row := range gate {
			for kvHead, g := range row {
				least[layer][kvHead] = min(least[layer][kvHead], g)
			}
		}
	}
	return least
}

// bestGate picks from the errors [budgets][gates] of n windows, relative to the
// state being off.
func bestGate(left [][]float64, n int) int {
	best, most := 0, 0.0
	for g := 1; g < len(gates); g++ {
		won, harm := 0.0, false
		for _, errors := range left {
			gain := 1 - errors[g]/float64(n)
			won += gain
			harm = harm || !(gain >= 0)
		}
		if !harm && won > most {
			best, most = g, won
		}
	}
	return best
}

// Shifted adds to every gate.
func Shifted(gate [][]float32, by float32) [][]float32 {
	out := make([][]float32, len(gate))
	for layer, row := range gate {
		for _, g := range row {
			out[layer] = append(out[layer], g+by)
		}
	}
	return out
}

// On counts the heads that have a state.
func On(gate [][]float32) int { return lesskernels.Gate{LogScale: gate}.On() }

// ExtraTokens is how many tokens for each KV head the bytes of the states would
// hold: float32 sums against keys and values in bf16 and a position.
func ExtraTokens(s lesskernels.FeatureShape, on, heads int) int {
	state, slot := 4*s.Rank*(s.HeadDim+1), 4*s.HeadDim+4
	return int(math.Ceil(float64(state*on) / float64(slot*heads)))
}
