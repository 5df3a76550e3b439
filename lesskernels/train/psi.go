package train

import "lessrag/lesskernels"

// psi is ψ of one KV head: with a = |s1|⊙kernel, ψ = |a + (a·W3)⊙s2|.
type psi struct {
	kernel
	a, mixed, sum []float32 // [n, wide] a, a·W3 and a + (a·W3)⊙s2
	d             []float32 // [n, wide]
}

func newPsi(s lesskernels.FeatureShape) *psi {
	return &psi{kernel: *newKernel(s.HeadDim, s.Hidden, s.Rank)}
}

// forward writes ψ [n, rank] of the keys x to dst.
func (p *psi) forward(dst []float32, w *headWeights, x []float32, n int) {
	p.kernel.forward(w.k1, w.k2, x, n)
	p.a, p.mixed, p.sum = sized(p.a, n*p.wide), sized(p.mixed, n*p.wide), sized(p.sum, n*p.wide)
	for i := range n {
		at := i * p.wide
		a, mixed := p.a[at:at+p.rank], p.mixed[at:at+p.rank]
		clear(mixed)
		for r := range a {
			a[r] = abs(w.s1[r]) * p.second[at+r]
			for c, x := range w.k3[r*p.rank : (r+1)*p.rank] {
				mixed[c] += a[r] * x
			}
		}
		for r := range a {
			p.sum[at+r] = a[r] + mixed[r]*w.s2[r]
			dst[i*p.rank+r] = abs(p.sum[at+r])
		}
	}
}

// backward adds the gradient of the head's weights, given that of ψ.
func (p *psi) backward(grad, w *headWeights, dPsi []float32) {
	p.d = sized(p.d, p.n*p.wide)
	clear(p.d)
	scaled := make([]float32, p.rank) // d(a·W3)
	for i := range p.n {
		at := i * p.wide
		a, mixed, d := p.a[at:at+p.rank], p.mixed[at:at+p.rank], p.d[at:at+p.rank]
		for r := range d {
			d[r] = signed(dPsi[i*p.rank+r], p.sum[at+r])
			grad.s2[r] += d[r] * mixed[r]
			scaled[r] = d[r] * w.s2[r]
		}
		for r := range d {
			row, dRow := w.k3[r*p.rank:(r+1)*p.rank], grad.k3[r*p.rank:(r+1)*p.rank]
			sum := d[r]
			for c, x := range scaled {
				sum += x * row[c]
				dRow[c] += a[r] * x
			}
			grad.s1[r] += signed(sum*p.second[at+r], w.s1[r])
			d[r] = sum * abs(w.s1[r])
		}
	}
	p.kernel.backward(grad.k1, grad.k2, w.k2, p.d)
}

// headWeights are the parts of a layer's weights that belong to one KV head.
type headWeights struct {
	q1, q2             [][]float32 // [group] of φ
	k1, k2, k3, s1, s2 []float32
	fade               []float32 // nil: no feature fades
}

func headOf(w *lesskernels.FeatureWeights, s lesskernels.FeatureShape, kvHead int) *headWeights {
	part := func(x []float32, i, n int) []float32 { return x[i*n : (i+1)*n : (i+1)*n] }
	h := &headWeights{
		k1: part(w.Wk1, kvHead, s.HeadDim*s.Hidden), k2: part(w.Wk2, kvHead, s.Hidden*s.Rank),
		k3: part(w.Wk3, kvHead, s.Rank*s.Rank), s1: part(w.S1, kvHead, s.Rank), s2: part(w.S2, kvHead, s.Rank),
	}
	if w.Fade != nil {
		h.fade = part(w.Fade, kvHead, s.Rank)
	}
	group := s.Heads / s.KVHeads
	for head := kvHead * group; head < (kvHead+1)*group; head++ {
		h.q1 = append(h.q1, part(w.Wq1, head, s.HeadDim*s.Hidden))
		h.q2 = append(h.q2, part(w.Wq2, head, s.Hidden*s.Rank))
	}
	return h
}
