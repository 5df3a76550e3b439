package train

import (
	"math"

	"lessrag/lesskernels"
)

// LongestFading is the most tokens of a window that features which fade learn from.
const LongestFading = 8192

// fade is what time takes from the features of one KV head. What a token at position p counts for a row at
// position t, e^(−λ(t−p)), is parted at a position between them all, so that sums over tokens stay sums.
// Rates are capped: over windows of LongestFading tokens neither part leaves what float32 holds.
type fade struct {
	rate []float64 // [rank] λ; nil: no feature fades
	open []bool    // [rank] λ is below the cap
	keys []float32 // [n, rank] e^(−λ(middle−p))
	rows []float32 // [rows, rank] e^(−λ(t−middle))
	ages struct{ keys, rows []float32 }
}

// forward readies the parts of rows and of evicted tokens, whose positions are given. rates [rank] are
// logarithms, or nil.
func (f *fade) forward(rates []float32, rows, evicted []int32) {
	f.rate, f.open = f.rate[:0], f.open[:0]
	if rates == nil {
		return
	}
	for _, x := range rates {
		rate := math.Exp(float64(x))
		f.rate, f.open = append(f.rate, min(rate, lesskernels.FastestFade)), append(f.open, rate < lesskernels.FastestFade)
	}
	middle := rows[len(rows)-1] / 2
	f.keys, f.ages.keys = f.part(f.keys, f.ages.keys, evicted, middle, -1)
	f.rows, f.ages.rows = f.part(f.rows, f.ages.rows, rows, middle, 1)
}

// part sets e^(−λ·age) [n, rank] and age [n] of positions, age = sign·(position − middle).
func (f *fade) part(to, ages []float32, positions []int32, middle int32, sign float32) (_, _ []float32) {
	to, ages = sized(to, len(positions)*len(f.rate)), sized(ages, len(positions))
	for i, position := range positions {
		ages[i] = sign * float32(position-middle)
		for r, rate := range f.rate {
			to[i*len(f.rate)+r] = float32(math.Exp(-rate * float64(ages[i])))
		}
	}
	return to, ages
}

// ofKeys lets ψ [n, rank] fade.
func (f *fade) ofKeys(psi []float32) { f.multiply(psi, f.keys) }

// ofRows lets φ [rows, rank] of one query head fade.
func (f *fade) ofRows(phi []float32) { f.multiply(phi, f.rows) }

func (f *fade) multiply(x, by []float32) {
	if len(f.rate) == 0 {
		return
	}
	for i := range x {
		x[i] *= by[i]
	}
}

// backward adds the gradient of the logarithms of rates, and turns those of faded ψ and φ into theirs.
func (f *fade) backward(grad []float32, s *state) {
	if len(f.rate) == 0 {
		return
	}
	sums := make([]float64, len(f.rate)) // of λ
	f.ask(sums, s.dPsi, s.psi, f.keys, f.ages.keys)
	for at, head := 0, len(f.rows); at < len(s.dPhi); at += head { // every query head of the group
		f.ask(sums, s.dPhi[at:at+head], s.phi[at:at+head], f.rows, f.ages.rows)
	}
	for r, rate := range f.rate {
		if f.open[r] {
			grad[r] += float32(sums[r] * rate)
		}
	}
}

// ask adds to the gradient of λ what faded features x [n, rank] with the gradient d ask, and fades d.
func (f *fade) ask(sums []float64, d, x, by, ages []float32) {
	rank := len(f.rate)
	for i, age := range ages {
		for r := range rank {
			at := i*rank + r
			sums[r] -= float64(age) * float64(d[at]) * float64(x[at])
			d[at] *= by[at]
		}
	}
}
