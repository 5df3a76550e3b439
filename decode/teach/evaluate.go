package teach

import (
	"context"

	"lessrag/decode/model"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/train"
)

// Evaluator measures what a policy, with or without a state, costs in nats: the
// model reads a text through it from the first layer to the last, so deeper
// layers see what the compressed ones before them gave.
type Evaluator struct {
	reader *model.Layerwise
	config model.Config
	pool   *cpu.Pool
	maps   []*lesskernels.FeatureMap // of every layer
	layer  *train.Layer              // scratch
	read   map[textFrom]float64      // texts read with all tokens
}

// NewEvaluator makes an evaluator of maps, one for each layer.
func NewEvaluator(reader *model.Layerwise, config model.Config, pool *cpu.Pool, maps []*lesskernels.FeatureMap) *Evaluator {
	return &Evaluator{reader: reader, config: config, pool: pool, maps: maps, layer: train.NewLayer(maps[0].FeatureShape, nil), read: map[textFrom]float64{}}
}

// Reading is how a text is read: through a policy, or through what a question
// left of it, with or without states.
type Reading struct {
	Policy *train.Policy // nil: all tokens are kept, or Keep says which
	Keep   []bool        // nil, or which of the first tokens stay when the others leave at once
	Gate   [][]float32   // [layers][kvHeads]; nil: no states
}

// NLL is the mean negative log-likelihood of tokens[from+1:], in nats.
func (e *Evaluator) NLL(ctx context.Context, tokens []int32, from int, r Reading) (float64, error) {
	x, err := e.reader.Embed(tokens[:len(tokens)-1])
	if err != nil {
		return 0, err
	}
	return e.run(ctx, x, 0, r, nil, tokens, from)
}

// attend fills a layer's attention as the reading wants it.
func (e *Evaluator) attend(layer int, h *model.Heads, r Reading) {
	if r.Policy == nil {
		e.reader.Dense(h)
		if r.Keep == nil {
			return
		}
	}
	a := attentionOf(e.config, h)
	var rows []int
	for row := len(r.Keep); row < h.Tokens; row++ {
		rows = append(rows, row)
	}
	var trace *train.Trace
	if r.Policy != nil {
		trace = train.Walk(e.pool, a, *r.Policy, rows)
	} else {
		trace = train.Cut(e.pool, a, r.Keep, rows)
	}
	out := h.Out[rows[0]*a.Width():]
	if r.Gate == nil || allOff(r.Gate[layer]) {
		copy(out, trace.Out)
		return
	}
	e.layer.Attend(e.pool, out, e.maps[layer], r.Gate[layer], trace.Sample(a, h.PreQ, h.PreK, nil))
}

func allOff(gate []float32) bool {
	for _, g := range gate {
		if !lesskernels.Off(g) {
			return false
		}
	}
	return true
}
