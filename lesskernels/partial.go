package lesskernels

import (
	"fmt"
	"math"
)

// Partial is the attention of one query over one segment of the context:
// exact, quantised and low-rank segments all return one, and Merge joins them
// to the attention over all (flash-decoding's algebra).
type Partial struct {
	Out []float32 // [headDim], normalised within the segment
	LSE float32   // natural log-sum-exp of the segment's scores; −Inf: it is empty
}

// Merge makes p the attention over its segment and the other's, in place.
// An empty segment changes nothing.
func (p *Partial) Merge(other Partial) {
	if len(p.Out) != len(other.Out) {
		panic(fmt.Sprintf("lesskernels: merge of partials of %d and %d values", len(p.Out), len(other.Out)))
	}
	a, b := float64(p.LSE), float64(other.LSE)
	peak := math.Max(a, b)
	if math.IsInf(peak, -1) {
		return
	}
	wa, wb := math.Exp(a-peak), math.Exp(b-peak)
	total := wa + wb
	p.LSE = float32(peak + math.Log(total))
	for i, x := range other.Out {
		p.Out[i] = float32(weighted(wa, p.Out[i])/total + weighted(wb, x)/total)
	}
}

// weighted is w·x, and zero for an empty segment whatever its output holds.
func weighted(w float64, x float32) float64 {
	if w == 0 {
		return 0
	}
	return w * float64(x)
}
