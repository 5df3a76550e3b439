package cpu

import (
	"time"

	"lessrag/lesskernels"
)

// limitTime is how long a limit is measured; the best round counts, since all
// that else runs on a machine can only slow it down.
const limitTime = 300 * time.Millisecond

// Reader measures how many bytes a second a pool's threads read: a product of one row
// of activations with 128 MiB of float32 weights, which nothing but the memory holds up.
// That is more than most processors' caches hold, and about what a step of the default
// reader reads: a cache that holds all of one holds the other.
type Reader struct {
	pool    *Pool
	weights *Matrix
	in      Input
	dst     []float32
}

// NewReader takes the memory.
func NewReader(p *Pool) *Reader {
	const rows, cols = 32 << 10, 1 << 10
	m, err := Pack(lesskernels.F32, make([]byte, 4*rows*cols), rows, cols, Best())
	if err != nil {
		panic(err) // the shape is fixed and valid
	}
	r := &Reader{pool: p, weights: m, dst: make([]float32, rows)}
	r.in.Set(make([]float32, cols), 1, cols)
	return r
}

// Bandwidth is the highest rate, in bytes a second, of the rounds of about some time.
func (r *Reader) Bandwidth(about time.Duration) float64 {
	return fastest(about, func() float64 {
		r.weights.Mul(r.pool, r.dst, &r.in)
		return float64(r.weights.Bytes())
	})
}

// ReadBandwidth is a Reader's for as long as a limit is measured.
func ReadBandwidth(p *Pool) float64 { return NewReader(p).Bandwidth(limitTime) }

// Int8Peak measures how many multiplications and additions of int8 a second the
// pool's threads do when nothing has to be loaded: VPDPBUSD from registers. It
// is 0 where the kernels do not use that instruction.
func Int8Peak(p *Pool) float64 {
	return fastest(limitTime, func() float64 { return peakRounds(p, 1<<17) })
}

// fastest repeats work, which returns an amount, and gives the highest amount a second.
func fastest(about time.Duration, work func() float64) float64 {
	var rate float64
	for start := time.Now(); time.Since(start) < about; {
		began := time.Now()
		amount := work()
		rate = max(rate, amount/time.Since(began).Seconds())
	}
	return rate
}
