package cpu

import (
	"time"

	"lessrag/lesskernels"
)

// limitTime is how long a limit is measured; the best round counts, since all
// that else runs on a machine can only slow it down.
const limitTime = 300 * time.Millisecond

// ReadBandwidth measures how many bytes a second the pool's threads read from
// memory: a product of one row of activations with float32 weights far larger
// than the caches, which nothing but the memory holds up.
func ReadBandwidth(p *Pool) float64 {
	const rows, cols = 32 << 10, 1 << 10 // 128 MiB
	m, err := Pack(lesskernels.F32, make([]byte, 4*rows*cols), rows, cols, Best())
	if err != nil {
		panic(err) // the shape is fixed and valid
	}
	var in Input
	in.Set(make([]float32, cols), 1, cols)
	dst := make([]float32, rows)
	return fastest(func() float64 {
		m.Mul(p, dst, &in)
		return float64(m.Bytes())
	})
}

// Int8Peak measures how many multiplications and additions of int8 a second the
// pool's threads do when nothing has to be loaded: VPDPBUSD from registers. It
// is 0 where the kernels do not use that instruction.
func Int8Peak(p *Pool) float64 {
	return fastest(func() float64 { return peakRounds(p, 1<<17) })
}

// fastest repeats work, which returns an amount, and gives the highest amount a second.
func fastest(work func() float64) float64 {
	var rate float64
	for start := time.Now(); time.Since(start) < limitTime; {
		began := time.Now()
		amount := work()
		rate = max(rate, amount/time.Since(began).Seconds())
	}
	return rate
}
