package cpu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// BenchmarkRows is what a token's row costs by itself, in a model of SmolLM2-135M's shape.
func BenchmarkRows(b *testing.B) {
	const width, hidden, heads, headDim, slots = 576, 1536, 9, 64, 1000
	rng := rand.New(rand.NewPCG(1, 2))
	x, w, gate, up := randomFloats(rng, width), randomFloats(rng, width), randomFloats(rng, hidden), randomFloats(rng, hidden)
	cos, sin := randomFloats(rng, headDim/2), randomFloats(rng, headDim/2)
	scores, turned := randomFloats(rng, slots), make([]float32, heads*headDim)
	y, wide, words, brains := make([]float32, width), make([]float32, hidden), make([]uint32, 2*intWords*hidden/blockLen), make([]uint16, width)
	for _, isa := range isas() {
		r := rowsFor(isa)
		for _, f := range []struct {
			name string
			do   func()
		}{
			{"rmsNorm", func() { r.rmsNorm(y, x, w, 1e-5) }},
			{"rope", func() { r.rope(turned, heads, headDim, cos, sin) }},
			{"swiglu", func() { r.swiglu(wide, gate, up) }},
			{"softmax", func() { r.softmax(slices.Clone(scores)) }},
			{"quantize", func() { r.quantize(words, gate, 1) }},
			{"quantizePair", func() { r.quantizePair(words, gate, 2) }},
			{"bf16", func() { r.bf16(brains, x) }},
			{"axpy", func() { r.axpy(y, 1, x) }},
		} {
			b.Run(fmt.Sprintf("%v/%s", isa, f.name), func(b *testing.B) {
				for b.Loop() {
					f.do()
				}
			})
		}
	}
}
