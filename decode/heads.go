package decode

import (
	"fmt"
	"slices"

	"lessrag/decode/heads"
	"lessrag/decode/model"
	"lessrag/lesskernels"
)

// HeadWeights is a copy of what the cache vote goes by, [layers·kvHeads]; nil where
// nothing was measured of the model.
func (e *Engine) HeadWeights() []float32 { return slices.Clone(e.headWeights) }

// findHeads is how much each KV head finds answers, [layers·kvHeads]: as measured
// by Look and written beside the model, as it comes with the program, or as the
// feature maps say; nil where nobody knows.
func findHeads(path, hash string, c model.Config, maps *lesskernels.Maps) ([]float32, error) {
	w, found, err := heads.Find(path, hash)
	switch {
	case err != nil:
		return nil, err
	case found:
		weights, err := w.Flat(c.Layers, c.KVHeads)
		if err != nil {
			return nil, fmt.Errorf("head weights: %w", err)
		}
		return weights, nil
	case maps != nil:
		return slices.Concat(maps.HeadWeights...), nil
	}
	return nil, nil
}
