package cpu

import (
	"fmt"
	"math"

	"lessrag/lesskernels"
)

// Absorb adds n evicted tokens to the low-rank state of one KV head
// (arXiv 2402.09398, eq. 4): h += ψᵀ·v, z += Σ ψ.
//
//	h   [R, headDim] f32
//	z   [R] f32
//	psi [n, R] f32
//	v   [n, headDim] bf16
//
// Every number of the state takes the tokens one after the other, so absorbing
// n at once or one by one in the same order gives the same bits.
func Absorb(isa ISA, h, z, psi []float32, v []uint16) {
	rank := len(z)
	if rank == 0 {
		return
	}
	n, headDim := len(psi)/rank, len(h)/rank
	if len(psi) != n*rank || len(h) != rank*headDim || len(v) != n*headDim {
		panic(fmt.Sprintf("cpu: absorb into a state of rank %d: h %d, psi %d, v %d values", rank, len(h), len(psi), len(v)))
	}
	for r := range rank {
		for i := range n {
			z[r] += psi[i*rank+r]
		}
	}
	done := absorbAssembly(isa, h, psi, v, rank, headDim)
	absorb(h, psi, v, rank, headDim, done)
}

// absorb is the portable h += ψᵀ·v from a column on.
func absorb(h, psi []float32, v []uint16, rank, headDim, from int) {
	if from == headDim {
		return
	}
	for i := range len(psi) / rank {
		value := v[i*headDim+from : (i+1)*headDim]
		for r, w := range psi[i*rank:][:rank] {
			row := h[r*headDim+from : (r+1)*headDim]
			for c, x := range value {
				row[c] += w * fromBF16(x)
			}
		}
	}
}

// Recall joins to the attention of queries, out [rows, headDim] of log-sum-exps lse [rows],
// that over the tokens which a state has absorbed, whose output and log-sum-exp are
//
//	φ·H / max(φ·z, ε), log max(φ·z, ε) + logScale
//	phi [rows, R] f32
//	h   [R, headDim] f32
//	z   [R] f32
//
// ε is lesskernels.Epsilon. logScale weighs the state against exact segments; with −Inf,
// and with a state of rank 0, nothing is joined. A state that has absorbed nothing yet is
// not: the caller leaves it out. lse stays that of the exact segments; of a row for which
// it is −Inf, out is not read.
func Recall(isa ISA, out, lse, phi, h, z []float32, logScale float32) {
	rank, rows := len(z), len(lse)
	if rank == 0 || math.IsInf(float64(logScale), -1) {
		return
	}
	headDim := len(h) / rank
	if len(h) != rank*headDim || len(out) < rows*headDim || len(phi) < rows*rank {
		panic(fmt.Sprintf("cpu: recall %d rows of a state of rank %d: out %d, phi %d, h %d values", rows, rank, len(out), len(phi), len(h)))
	}
	for i, exact := range lse {
		row := phi[i*rank:][:rank]
		total := floor(dot(row, z), lesskernels.Epsilon)
		mass := float64(total) * math.Exp(float64(logScale)-float64(exact)) // against 1 of the exact segments
		keep, weight := float32(1/(1+mass)), float32(mass/(1+mass))/total
		if math.IsInf(mass, 1) {
			keep, weight = 0, 1/total
		}
		to := out[i*headDim:][:headDim]
		queryRow(to, row, h, keep, weight, queryRowAssembly(isa, to, row, h, keep, weight))
	}
}

// floor is max(x, least), and NaN if x is.
func floor(x, least float32) float32 {
	if x < least {
		return least
	}
	return x
}

// queryRow is the portable out = keep·out + weight · φ·h from a column on, which does not
// read out where keep is 0.
func queryRow(out, phi, h []float32, keep, weight float32, from int) {
	rest := out[from:]
	if keep == 0 {
		clear(rest)
	}
	for i := range rest {
		rest[i] *= keep
	}
	for r, w := range phi {
		axpy(rest, w*weight, h[r*len(out)+from:(r+1)*len(out)])
	}
}
