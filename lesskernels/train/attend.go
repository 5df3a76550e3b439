package train

import (
	"math"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// Attend writes the attention of a sample with a state to out [rows, heads,
// headDim]. gate [kvHeads] is added to log φ·z; −Inf leaves the policy alone.
func (l *Layer) Attend(pool *cpu.Pool, out []float32, f *lesskernels.FeatureMap, gate []float32, s *Sample) {
	s.check(l.shape)
	l.out = sized(l.out, len(s.Sparse))
	pool.Run(l.shape.KVHeads, func(kvHead int) {
		h := &l.heads[kvHead]
		h.state.shiftExp = float32(math.Exp(float64(gate[kvHead])))
		defer func() { h.state.shiftExp = 1 }()
		l.forward(&f.FeatureWeights, s, kvHead)
	})
	copy(out, l.out)
}

// HeadErrors tells, for every KV head and gate, the error of a sample when that
// head's state is so gated and the others are as in others: [kvHeads, gates].
func (l *Layer) HeadErrors(f *lesskernels.FeatureMap, others, gates []float32, s *Sample) [][]float64 {
	s.check(l.shape)
	l.out = sized(l.out, len(s.Exact))
	run := func(kvHead int, gate float32) {
		l.heads[kvHead].state.shiftExp = float32(math.Exp(float64(gate)))
		l.forward(&f.FeatureWeights, s, kvHead)
		l.heads[kvHead].state.shiftExp = 1
	}
	for kvHead := range l.heads {
		run(kvHead, others[kvHead])
	}
	errors := make([][]float64, l.shape.KVHeads)
	e := make([]float32, len(l.out))
	for kvHead := range errors {
		for _, gate := range gates {
			run(kvHead, gate)
			for i, x := range s.Exact {
				e[i] = l.out[i] - x
			}
			err, _ := l.metric.error(e, s.Rows)
			errors[kvHead] = append(errors[kvHead], err)
		}
		run(kvHead, others[kvHead])
	}
	return errors
}
