package train

import (
	"math"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// state walks one KV head's low-rank state through a sample: forward with H and
// z as they grow, backward with the sums of what later rows ask of them.
type state struct {
	rank, dim, group int

	h, z     []float32 // [rows, rank, dim], [rows, rank] the state that each row meets
	mean     []float32 // [group, rows, dim] φ·H / φ·z
	den      []float32 // [group, rows] φ·z before its floor
	weight   []float32 // [group, rows] share of the state in the softmax
	sumH     []float32 // [rank, dim] gradient of the state
	sumZ     []float32 // [rank]
	numer    []float32 // [dim]
	psi      []float32 // [n, rank]
	phi      []float32 // [group, rows, rank]
	dPsi     []float32 // as psi
	dPhi     []float32 // as phi
	shiftExp float32   // e^gate
}

// forward writes the attention of the KV head's queries to out: [rows, heads,
// headDim] from the group's first head on. psi and phi are set.
func (s *state) forward(out []float32, sample *Sample, shape Shape, kvHead int) {
	rows, dim, rank := sample.Rows, s.dim, s.rank
	s.h, s.z = sized(s.h, rows*rank*dim), sized(s.z, rows*rank)
	s.mean, s.den, s.weight = sized(s.mean, s.group*rows*dim), sized(s.den, s.group*rows), sized(s.weight, s.group*rows)
	evicted := &sample.Evicted[kvHead]
	done := int32(0)
	for row := range rows {
		h, z := s.h[row*rank*dim:][:rank*dim], s.z[row*rank:][:rank]
		if row == 0 {
			clear(h)
			clear(z)
		} else {
			copy(h, s.h[(row-1)*rank*dim:])
			copy(z, s.z[(row-1)*rank:])
		}
		for ; done < evicted.Before[row]; done++ {
			v := evicted.V[int(done)*dim:][:dim]
			for r, w := range s.psi[int(done)*rank:][:rank] {
				z[r] += w
				cpu.Axpy(h[r*dim:(r+1)*dim], w, v)
			}
		}
		for g := range s.group {
			s.attend(out, sample, shape, kvHead*s.group+g, g, row, h, z)
		}
	}
}

// attend joins one query's state with its sparse attention.
func (s *state) attend(out []float32, sample *Sample, shape Shape, head, g, row int, h, z []float32) {
	dim, at := s.dim, g*sample.Rows+row
	phi := s.phi[at*s.rank:][:s.rank]
	den := float32(0)
	mean := s.mean[at*dim:][:dim]
	clear(mean)
	for r, w := range phi {
		den += w * z[r]
		cpu.Axpy(mean, w, h[r*dim:(r+1)*dim])
	}
	floor := max(den, lesskernels.Epsilon)
	share := float32(0)
	if sample.Evicted[head/s.group].Before[row] > 0 {
		share = float32(1 / (1 + math.Exp(float64(sample.LSE[head*sample.Rows+row])-math.Log(float64(floor*s.shiftExp)))))
	}
	s.den[at], s.weight[at] = den, share
	to := out[row*shape.Width()+head*dim:][:dim]
	sparse := sample.Sparse[row*shape.Width()+head*dim:][:dim]
	for c := range mean {
		mean[c] /= floor
		to[c] = share*mean[c] + (1-share)*sparse[c]
	}
}

// backward sets dPsi and dPhi, given the gradient of the output.
func (s *state) backward(dOut []float32, sample *Sample, shape Shape, kvHead int) {
	rows, dim, rank := sample.Rows, s.dim, s.rank
	evicted := &sample.Evicted[kvHead]
	s.dPsi, s.dPhi = sized(s.dPsi, len(s.psi)), sized(s.dPhi, len(s.phi))
	clear(s.dPsi)
	s.sumH, s.sumZ = sized(s.sumH, rank*dim), sized(s.sumZ, rank)
	clear(s.sumH)
	clear(s.sumZ)
	s.numer = sized(s.numer, dim)
	for row := rows - 1; row >= 0; row-- {
		for g := range s.group {
			s.ask(dOut, sample, shape, kvHead*s.group+g, g, row)
		}
		first := int32(0)
		if row > 0 {
			first = evicted.Before[row-1]
		}
		for i := int(first); i < int(evicted.Before[row]); i++ {
			v, d := evicted.V[i*dim:][:dim], s.dPsi[i*rank:][:rank]
			for r := range d {
				d[r] = s.sumZ[r] + cpu.Dot(s.sumH[r*dim:(r+1)*dim], v)
			}
		}
	}
}

// ask adds what one query asks of the state to its gradient, and sets that of
// φ. With m = φ·H/f, f = max(φ·z, ε) and the share w = f/(f + e^lse):
// out = w·m + (1−w)·sparse, dw/df = w(1−w)/f.
func (s *state) ask(dOut []float32, sample *Sample, shape Shape, head, g, row int) {
	dim, at := s.dim, g*sample.Rows+row
	d := dOut[row*shape.Width()+head*dim:][:dim]
	sparse := sample.Sparse[row*shape.Width()+head*dim:][:dim]
	mean, share, den := s.mean[at*dim:][:dim], s.weight[at], s.den[at]
	floor := max(den, lesskernels.Epsilon)
	dMean, dShare := cpu.Dot(d, mean), float32(0)
	dShare = dMean - cpu.Dot(d, sparse)
	for c, x := range d {
		s.numer[c] = share * x / floor
	}
	dDen := float32(0)
	if den > lesskernels.Epsilon {
		dDen = (dShare*share*(1-share) - share*dMean) / floor
	}
	h, z := s.h[row*s.rank*dim:][:s.rank*dim], s.z[row*s.rank:][:s.rank]
	phi, dPhi := s.phi[at*s.rank:][:s.rank], s.dPhi[at*s.rank:][:s.rank]
	for r := range phi {
		dPhi[r] = cpu.Dot(s.numer, h[r*dim:(r+1)*dim]) + dDen*z[r]
		s.sumZ[r] += phi[r] * dDen
		cpu.Axpy(s.sumH[r*dim:(r+1)*dim], phi[r], s.numer)
	}
}
