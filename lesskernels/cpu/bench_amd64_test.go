package cpu

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkHandOff is two tasks of some 10 µs each after a serial gap: a perfect
// pool takes as long as one of them.
func BenchmarkHandOff(b *testing.B) {
	if Best() != AVX512 {
		b.Skip("the task is timed with an AVX-512 kernel")
	}
	const rounds = 3000
	for _, gap := range []uintptr{rounds / 10, rounds / 2, 5 * rounds} {
		b.Run(fmt.Sprintf("gap=%d", gap), func(b *testing.B) {
			pool := NewPool(2)
			defer pool.Close()
			var alone, both time.Duration
			for b.Loop() {
				peakAVX512(gap)
				began := time.Now()
				peakAVX512(rounds)
				middle := time.Now()
				pool.Run(2, func(int) { peakAVX512(rounds) })
				alone += middle.Sub(began)
				both += time.Since(middle)
			}
			b.ReportMetric(float64(both)/float64(alone), "of-one-task")
			b.ReportMetric(0, "ns/op")
		})
	}
}
