package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"lessrag/lesskernels"
)

// BenchmarkLESS is what a memory adds to a model of SmolLM2-135M's shape
// (30 layers, 3 of 9 heads with keys, R 8, 128 hidden): microseconds a token of
// φ and recall of a step (n = 1) or of each row of a block, of ψ and
// absorb of each evicted key, on one thread. GB/s is the weights read by φ.
func BenchmarkLESS(b *testing.B) {
	const layers, hold = 30, 128
	shape := lesskernels.FeatureShape{Heads: 9, KVHeads: 3, HeadDim: 64, Hidden: 128, Rank: 8}
	group := shape.Heads / shape.KVHeads
	rng := rand.New(rand.NewPCG(1, 2))
	f := randomMap(b, rng, shape)
	for _, isa := range isas()[1:] {
		maps := make([]*Maps, layers)
		for i := range maps {
			maps[i] = PackMaps(f, isa)
		}
		for _, n := range []int{1, 8, hold} {
			x := randomFloats(rng, n*group*shape.HeadDim)
			v := make([]uint16, n*shape.HeadDim)
			BF16(v, x[:len(v)])
			phi, psi := make([]float32, n*group*shape.Rank), make([]float32, n*shape.Rank)
			h, z := randomFloats(rng, shape.Rank*shape.HeadDim), []float32{1, 2, 3, 4, 5, 6, 7, 8}
			out, lse := make([]float32, n*group*shape.HeadDim), make([]float32, n*group)
			var s Scratch
			for _, work := range []struct {
				name string
				run  func(m *Maps, kvHead int)
			}{
				{"phi", func(m *Maps, kvHead int) { m.Phi(phi, kvHead, x, n, &s) }},
				{"recall", func(*Maps, int) { Recall(isa, out, lse, phi, h, z, 0) }},
				{"psi", func(m *Maps, kvHead int) { m.Psi(psi, kvHead, x, n, &s) }},
				{"absorb", func(*Maps, int) { Absorb(isa, h, z, psi, v) }},
			} {
				b.Run(fmt.Sprintf("%v/n=%d/%s", isa, n, work.name), func(b *testing.B) {
					for b.Loop() {
						for _, m := range maps {
							for kvHead := range shape.KVHeads {
								work.run(m, kvHead)
							}
						}
					}
					b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N*n), "µs/token")
					b.ReportMetric(0, "ns/op")
					if work.name == "phi" {
						b.ReportMetric(float64(b.N)*float64(maps[0].Bytes())*layers*0.75/1e9/b.Elapsed().Seconds(), "GB/s")
					}
				})
			}
		}
	}
}
