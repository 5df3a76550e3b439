package train

import (
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// Metric is what errors of a layer's attention weigh: for e of all heads side
// by side, |Wo·e|² = e·M·eᵀ with M = Woᵀ·Wo.
type Metric struct {
	width  int
	m      []float32 // [width, width]
	scaled []float32
}

// NewMetric is that of the output projection wo [outputs, width].
func NewMetric(wo []float32, outputs, width int) *Metric {
	m := &Metric{width: width, m: make([]float32, width*width)}
	w := cpu.Rows(wo, width)
	cpu.AddProduct(cpu.Rows(m.m, width), w.T(), w, width, width, outputs)
	// The loss is a mean over the outputs.
	for i := range m.m {
		m.m[i] /= float32(outputs)
	}
	return m
}

// error is the mean of |Wo·e|² over rows, and e·M, which is half its gradient
// for each row. e [rows, width].
func (m *Metric) error(e []float32, rows int) (float64, []float32) {
	m.scaled = sized(m.scaled, rows*m.width)
	clear(m.scaled)
	cpu.AddProduct(cpu.Rows(m.scaled, m.width), cpu.Rows(e, m.width), cpu.Rows(m.m, m.width), rows, m.width, m.width)
	sum := 0.0
	for row := range rows {
		at := row * m.width
		sum += float64(cpu.Dot(e[at:at+m.width], m.scaled[at:at+m.width]))
	}
	return sum / float64(rows), m.scaled
}

// Policy is the error of a sample's policy alone: what a state may win back.
func (m *Metric) Policy(s *Sample) float64 {
	e := make([]float32, len(s.Exact))
	for i, x := range s.Exact {
		e[i] = s.Sparse[i] - x
	}
	err, _ := m.error(e, s.Rows)
	return err
}

func (m *Metric) policies(samples []*Sample) []float64 {
	errors := make([]float64, len(samples))
	for i, s := range samples {
		errors[i] = m.Policy(s)
	}
	return errors
}

// Layer computes losses and gradients of one layer. It is scratch: one
// goroutine uses it at a time.
type Layer struct {
	shape   Shape
	feature lesskernels.FeatureShape
	metric  *Metric
	heads   []layerHead
	out     []float32 // [rows, heads, headDim]
}

// layerHead is one KV head's part.
type layerHead struct {
	state state
	phi   []*kernel // [group]
	psi   *psi
	fade  fade
	d     []float32
}

// NewLayer makes the scratch.
func NewLayer(f lesskernels.FeatureShape, m *Metric) *Layer {
	l := &Layer{shape: Shape{f.Heads, f.KVHeads, f.HeadDim}, feature: f, metric: m, heads: make([]layerHead, f.KVHeads)}
	for i := range l.heads {
		h := &l.heads[i]
		h.state = state{rank: f.Rank, dim: f.HeadDim, group: l.shape.Group(), shiftExp: 1}
		h.psi = newPsi(f)
		for range l.shape.Group() {
			h.phi = append(h.phi, newKernel(f.HeadDim, f.Hidden, f.Rank))
		}
	}
	return l
}

// loss is the mean error of the sample's attention with a state.
func (l *Layer) loss(w *weights, s *Sample) (float64, []float32) {
	s.check(l.shape)
	l.out = sized(l.out, len(s.Exact))
	for kvHead := range l.heads {
		l.forward(&w.FeatureWeights, s, kvHead)
	}
	for i, x := range s.Exact {
		l.out[i] -= x
	}
	return l.metric.error(l.out, s.Rows)
}

// forward computes one KV head's attention.
func (l *Layer) forward(w *lesskernels.FeatureWeights, s *Sample, kvHead int) {
	h, part := &l.heads[kvHead], headOf(w, l.feature, kvHead)
	evicted, rank, dim := &s.Evicted[kvHead], l.feature.Rank, l.shape.HeadDim
	n := int(evicted.Before[s.Rows-1])
	h.state.psi = sized(h.state.psi, n*rank)
	h.psi.forward(h.state.psi, part, evicted.K[:n*dim], n)
	h.fade.forward(part.fade, s.At, evicted.At[:n])
	h.fade.ofKeys(h.state.psi)
	h.state.phi = sized(h.state.phi, l.shape.Group()*s.Rows*rank)
	for g, phi := range h.phi {
		head := kvHead*l.shape.Group() + g
		phi.forward(part.q1[g], part.q2[g], s.Q[head*s.Rows*dim:(head+1)*s.Rows*dim], s.Rows)
		to := h.state.phi[g*s.Rows*rank:]
		for i := range s.Rows {
			for r := range rank {
				to[i*rank+r] = abs(phi.second[i*phi.wide+r])
			}
		}
		h.fade.ofRows(to[:s.Rows*rank])
	}
	h.state.forward(l.out, s, l.shape, kvHead)
}

// gradient adds scale times the gradient of the loss to grad and returns the loss.
func (l *Layer) gradient(grad, w *weights, s *Sample, scale float64) float64 {
	loss, d := l.loss(w, s)
	factor := float32(2 * scale / float64(s.Rows))
	for i := range d {
		d[i] *= factor
	}
	for kvHead := range l.heads {
		l.backward(grad, w, s, kvHead, d)
	}
	return loss
}

func (l *Layer) backward(grad, w *weights, s *Sample, kvHead int, d []float32) {
	h := &l.heads[kvHead]
	part, to := headOf(&w.FeatureWeights, l.feature, kvHead), headOf(&grad.FeatureWeights, l.feature, kvHead)
	h.state.backward(d, s, l.shape, kvHead)
	h.fade.backward(to.fade, &h.state)
	h.psi.backward(to, part, h.state.dPsi)
	rank := l.feature.Rank
	for g, phi := range h.phi {
		h.d = sized(h.d, s.Rows*phi.wide)
		clear(h.d)
		from := h.state.dPhi[g*s.Rows*rank:]
		for i := range s.Rows {
			for r := range rank {
				h.d[i*phi.wide+r] = signed(from[i*rank+r], phi.second[i*phi.wide+r])
			}
		}
		phi.backward(to.q1[g], to.q2[g], part.q2[g], h.d)
	}
}
