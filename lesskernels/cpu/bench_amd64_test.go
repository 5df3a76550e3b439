package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// BenchmarkHandOff is two tasks of some 10 µs each after a serial gap: a perfect
// pool takes as long as one of them.
func BenchmarkHandOff(b *testing.B) {
	if Best() < AVX512 {
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

// BenchmarkAttendPeak is the attention of a block as a part of what no float32
// product can pass, a multiply-add of a whole register each time VPDPBUSD could
// be one. Both are timed in turn, so that it holds on a machine that is not quiet.
func BenchmarkAttendPeak(b *testing.B) {
	if Best() < AVX512 {
		b.Skip("the peak is timed with an AVX-512 kernel")
	}
	const nq, group, headDim, rounds = 64, 3, 64, 20000
	for _, isa := range isas()[1:] {
		for _, slots := range []int{128, 1024} {
			b.Run(fmt.Sprintf("%v/slots=%d", isa, slots), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(1, 2))
				q, out, lse := randomFloats(rng, nq*group*headDim), make([]float32, nq*group*headDim), make([]float32, nq*group)
				k, v := make([]uint16, slots*headDim), make([]uint16, slots*headDim)
				BF16(k, randomFloats(rng, len(k)))
				BF16(v, randomFloats(rng, len(v)))
				visible := make([]int32, nq)
				for i := range visible {
					visible[i] = int32(slots)
				}
				var s Scratch
				var peak, attend time.Duration
				for b.Loop() {
					began := time.Now()
					peakAVX512(rounds)
					middle := time.Now()
					Attend(isa, out, lse, q, k, v, group, headDim, visible, 0.125, &s)
					peak += middle.Sub(began)
					attend += time.Since(middle)
				}
				perAttend := float64(2*nq*group*headDim*slots) / attend.Seconds()
				perPeak := float64(rounds*tokensOfPeak*16) / peak.Seconds()
				b.ReportMetric(perAttend/perPeak, "of-peak")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// tokensOfPeak is how many VPDPBUSD a round of peakAVX512 has.
const tokensOfPeak = 12
