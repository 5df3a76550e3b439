package cpu

import "math"

// refineParts is how many parts of a token's outputs are looked through apart.
const refineParts = 4

// MulRefined is Mul for outputs that are logits: it writes the product with the input's
// codes, and where an output is within margin of its token's highest, the product with
// pairs of codes in its place (see Product.Pairs), with those of the 15 rows beside it.
// So the choice among what may be chosen is as exact as if all were computed with pairs,
// for half the arithmetic. A token's outputs depend on its row of the input alone.
func (m *Matrix) MulRefined(p *Pool, dst []float32, in *Input, margin float32) {
	m.Mul(p, dst, in)
	if in.n == 0 || !m.layout.integer() || m.layout == words {
		return
	}
	in.form(p, single, m.isa)
	peaks := make([]float32, in.n*refineParts)
	part := func(i int) (token, from, to int) { // panels [from, to)
		panels, i, token := m.panels(), i%refineParts, i/refineParts
		return token, i * panels / refineParts, (i + 1) * panels / refineParts
	}
	p.Run(len(peaks), func(i int) {
		token, from, to := part(i)
		peaks[i] = float32(math.Inf(-1))
		if x := m.outputs(dst, token, from, to); len(x) > 0 {
			if at, ok := rowsFor(m.isa).argmax(x); ok {
				peaks[i] = x[at]
			}
		}
	})
	p.Run(len(peaks), func(i int) {
		token, from, to := part(i)
		limit := float32(math.Inf(-1))
		for _, peak := range peaks[token*refineParts:][:refineParts] {
			limit = max(limit, peak-margin)
		}
		m.refine(dst, in, token, from, to, limit)
	})
}

// outputs are those of panels [from, to) for a token.
func (m *Matrix) outputs(dst []float32, token, from, to int) []float32 {
	return dst[token*m.rows:][from*panelRows : min(to*panelRows, m.rows)]
}

// refine computes with pairs those panels of [from, to) of which an output reaches a limit.
func (m *Matrix) refine(dst []float32, in *Input, token, from, to int, limit float32) {
	product := make([]float32, 2*panelRows)
	words, _, _ := in.tile(&in.forms[single], token)
	above := rowsFor(m.isa).above
	for ; from < to; from++ {
		if from += above(m.outputs(dst, token, from, to), limit) / panelRows; from >= to {
			return
		}
		m.mulTile(product, panelRows, words, 2, m.at(from), 0)
		rowsFor(m.isa).addPairs(product, panelRows, product, 1)
		copy(m.outputs(dst, token, from, from+1), product)
	}
}

// above is the portable search for the first value that reaches a limit: its place, or
// that of any other of its sixteen; at least len(x) where there is none.
func above(x []float32, limit float32) int {
	for i, v := range x {
		if v >= limit {
			return i
		}
	}
	return (len(x) + panelRows - 1) &^ (panelRows - 1)
}
