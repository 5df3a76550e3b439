package teach

import (
	"context"

	"lessrag/decode/model"
	"lessrag/lesskernels/train"
)

// ByNLL switches off the states of whole layers without which texts are
// predicted better: every layer in turn is read without its states, the others
// as the gate has them. Where all that were found together do not make the
// texts more likely, the gate stays as it was. All are read under one policy.
func (e *Evaluator) ByNLL(ctx context.Context, gate [][]float32, windows [][]int32, p train.Policy, progress func(layer int, gain float64)) ([][]float32, error) {
	gains := make([]float64, e.config.Layers)
	whole := 0.0
	for _, tokens := range windows {
		r := Reading{Policy: &p, Gate: gate}
		x, err := e.reader.Embed(tokens[:len(tokens)-1])
		if err != nil {
			return nil, err
		}
		entering := make([][]float32, e.config.Layers)
		from := min(len(tokens)/2, 4*p.Budget)
		on, err := e.run(ctx, x, 0, r, func(layer int, x []float32) { entering[layer] = append([]float32(nil), x...) }, tokens, from)
		if err != nil {
			return nil, err
		}
		whole += on
		for layer := range entering {
			if allOff(gate[layer]) {
				continue
			}
			without := Reading{Policy: &p, Gate: withoutLayers(gate, func(l int) bool { return l == layer })}
			off, err := e.run(ctx, entering[layer], layer, without, nil, tokens, from)
			if err != nil {
				return nil, err
			}
			gains[layer] += off - on
		}
	}
	for layer, gain := range gains {
		progress(layer, gain/float64(len(windows)))
	}
	less := withoutLayers(gate, func(l int) bool { return gains[l] < 0 })
	if On(less) == On(gate) {
		return gate, nil
	}
	remaining := 0.0
	for _, tokens := range windows {
		nll, err := e.NLL(ctx, tokens, min(len(tokens)/2, 4*p.Budget), Reading{Policy: &p, Gate: less})
		if err != nil {
			return nil, err
		}
		remaining += nll
	}
	if remaining < whole {
		return less, nil
	}
	return gate, nil
}

// withoutLayers is a gate with all states of some layers off.
func withoutLayers(gate [][]float32, off func(layer int) bool) [][]float32 {
	out := Shifted(gate, 0)
	for layer, row := range out {
		if off(layer) {
			for kvHead := range row {
				row[kvHead] = gates[0]
			}
		}
	}
	return out
}

// run takes x, what enters a layer, through the layers from there on and returns
// the mean negative log-likelihood of tokens[from+1:]. enter is told of x before
// each layer.
func (e *Evaluator) run(ctx context.Context, x []float32, first int, r Reading, enter func(layer int, x []float32), tokens []int32, from int) (float64, error) {
	for layer := first; layer < e.config.Layers; layer++ {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if enter != nil {
			enter(layer, x)
		}
		e.reader.Layer(layer, x, func(h *model.Heads) { e.attend(layer, h, r) })
	}
	sum, scores := 0.0, e.reader.Scores(x, from, tokens[from+1:])
	for _, s := range scores {
		sum += s.NLL
	}
	return sum / float64(len(scores)), nil
}
