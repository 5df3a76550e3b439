package main

import (
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// joined returns the lanes of each of four registers joined to one, in one of
// four lanes.
func (w width) joined(v []reg.VecVirtual, join func(a, b reg.Register)) reg.Register {
	low, halves := w.vec(), w.vecs(2)
	for i, half := range halves {
		w.VUNPCKLPS(v[2*i+1], v[2*i], low)
		w.VUNPCKHPS(v[2*i+1], v[2*i], half)
		join(low, half)
	}
	high := v[0]
	w.VUNPCKLPD(halves[1], halves[0], low)
	w.VUNPCKHPD(halves[1], halves[0], high)
	join(low, high)
	if w.wide() {
		w.VEXTRACTF64X4(op.Imm(1), high, low.AsY())
		join(low.AsY(), high.AsY())
		w.VEXTRACTF32X4(op.Imm(1), high.AsY(), low.AsX())
	} else {
		w.VEXTRACTF128(op.Imm(1), high, low.AsX())
	}
	join(low.AsX(), high.AsX())
	return high.AsX()
}

// twoSums returns the sums of the lanes of two small registers in two lanes.
func (w width) twoSums(a, b reg.VecVirtual) reg.Register {
	w.VHADDPS(b, a, a)
	w.VEXTRACTF128(op.Imm(1), a, b.AsX())
	w.VADDPS(b.AsX(), a.AsX(), a.AsX())
	w.VHADDPS(a.AsX(), a.AsX(), a.AsX())
	return a.AsX()
}

// folded256 joins the lanes of v into its lowest.
func (k *kernels) folded256(v reg.VecVirtual, join func(a, b reg.Register)) reg.Register {
	t := k.YMM()
	k.VEXTRACTF128(op.Imm(1), v, t.AsX())
	join(t.AsX(), v.AsX())
	k.VPERMILPS(op.Imm(0b01001110), v.AsX(), t.AsX())
	join(t.AsX(), v.AsX())
	k.VPERMILPS(op.Imm(0b10110001), v.AsX(), t.AsX())
	join(t.AsX(), v.AsX())
	return v.AsX()
}
