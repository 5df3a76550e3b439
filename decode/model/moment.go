package model

import (
	"math"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cpu"
)

// MomentKV (arXiv 2606.01563), first order, with μ and ν the means of the absorbed
// keys and values, C = Σ (v − ν)(k − μ)ᵀ / n and s the scale of attention. Around
// the mean key, e^{s·q·k} = e^{s·q·μ} (1 + s·q·(k − μ) + …). Summed over the n
// tokens the linear term vanishes from the mass and leaves a covariance in the
// weighted values:
//
//	Σ e^{s·q·k}   ≈ n e^{s·q·μ}
//	Σ e^{s·q·k} v ≈ n e^{s·q·μ} (ν + s·C·q)
//
// which is a segment of attention with output ν + s·C·q and log-sum-exp
// s·q·μ + log n.

// absorbMoments adds n rows, w.keys and values [n, stored], to a state that has
// done first of l's rows (Welford's updates, in this order: the deviation of a key
// from the old mean meets that of its value from the new one).
func (c *CPU) absorbMoments(l *leaving, w *attendWorker, n, first int, values []uint16) {
	dim := c.config.HeadDim
	s := l.state
	count := s.Absorbed - l.n + first
	value := rowOf(resize(w.columns, dim), 0, dim)
	w.columns = value
	for i := range n {
		count++
		key := rowOf(w.keys, i, dim)
		c.widen(value, rowOf(values, i, c.stored))
		share := 1 / float32(count)
		for j := range dim {
			key[j] -= s.KeyMean[j]
			s.KeyMean[j] += key[j] * share
			s.ValueMean[j] += (value[j] - s.ValueMean[j]) * share
		}
		for j := range dim {
			cpu.Axpy(rowOf(s.Covariance, j, dim), value[j]-s.ValueMean[j], key)
		}
	}
}

// askMoments is the attention of q [rows, headDim] over a state, as a segment: out
// [rows, stored], lse [rows].
func (c *CPU) askMoments(s *cache.State, q, out, lse []float32) {
	dim := c.config.HeadDim
	clear(out)
	share := c.scale / float32(s.Absorbed)
	for i := range lse {
		query, answer := rowOf(q, i, dim), rowOf(out, i, c.stored)
		lse[i] = c.scale*cpu.Dot(query, s.KeyMean) + float32(math.Log(float64(s.Absorbed)))
		for j := range dim {
			answer[j] = s.ValueMean[j] + share*cpu.Dot(rowOf(s.Covariance, j, dim), query)
		}
	}
}
