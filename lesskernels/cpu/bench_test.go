package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"lessrag/lesskernels"
)

// BenchmarkMul reports GB/s of weights read, for few tokens, and billions of
// multiplications and additions per second, for many.
func BenchmarkMul(b *testing.B) {
	for _, isa := range isas() {
		for _, dtype := range []lesskernels.DType{lesskernels.F32, lesskernels.BF16, lesskernels.Q4_0, lesskernels.Q4_1, lesskernels.Q8_0} {
			for _, n := range []int{1, 4, 12, 96} {
				for _, threads := range []int{1, 2} {
					b.Run(fmt.Sprintf("%v/%v/n=%d/threads=%d", isa, dtype, n, threads), func(b *testing.B) {
						benchMul(b, isa, dtype, n, threads, 1536, 576)
					})
				}
			}
		}
	}
}

func benchMul(b *testing.B, isa ISA, dtype lesskernels.DType, n, threads, rows, cols int) {
	rng := rand.New(rand.NewPCG(1, 2))
	pool := NewPool(threads)
	defer pool.Close()
	data := randomWeights(rng, dtype, rows*cols)
	var matrices []*Matrix // beyond the caches
	for size := int64(0); len(matrices) == 0 || size < 100<<20 && n < 12; size += matrices[0].Bytes() {
		m, err := Pack(dtype, data, rows, cols, isa)
		if err != nil {
			b.Fatal(err)
		}
		matrices = append(matrices, m)
	}
	var in Input
	in.Set(randomFloats(rng, n*cols), n, cols)
	dst := make([]float32, n*rows)
	for i := 0; b.Loop(); i++ {
		matrices[i%len(matrices)].Mul(pool, dst, &in)
	}
	perSecond := float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(perSecond*float64(matrices[0].Bytes())/1e9, "GB/s")
	b.ReportMetric(perSecond*2*float64(n*rows*cols)/1e9, "GOP/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkLimits are what no product can pass: bytes read a second from memory
// far larger than the caches, and int8 operations a second from registers.
func BenchmarkLimits(b *testing.B) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			pool := NewPool(threads)
			defer pool.Close()
			var read, peak float64
			for b.Loop() {
				read, peak = max(read, ReadBandwidth(pool)), max(peak, Int8Peak(pool))
			}
			b.ReportMetric(read/1e9, "GB/s")
			b.ReportMetric(peak/1e9, "GOP/s")
		})
	}
}

// BenchmarkRun is the cost of handing out tasks that do nothing.
func BenchmarkRun(b *testing.B) {
	pool := NewPool(2)
	defer pool.Close()
	for b.Loop() {
		pool.Run(2, func(int) {})
	}
}

// BenchmarkAttend is one KV head of a small model: GB/s of keys and values
// read for one step, billions of operations per second for a block. For column
// statistics of the same slots it reports the part of attention's time beside.
func BenchmarkAttend(b *testing.B) {
	const group, headDim, slots = 3, 64, 2048
	for _, isa := range isas() {
		for _, nq := range []int{1, 64} {
			rng := rand.New(rand.NewPCG(1, 2))
			q, out, lse := randomFloats(rng, nq*group*headDim), make([]float32, nq*group*headDim), make([]float32, nq*group)
			k, v := make([]uint16, slots*headDim), make([]uint16, slots*headDim)
			BF16(k, randomFloats(rng, len(k)))
			BF16(v, randomFloats(rng, len(v)))
			visible, dst := make([]int32, nq), make([]float32, group*slots)
			for i := range visible {
				visible[i] = slots
			}
			var s Scratch
			var attend float64 // seconds
			b.Run(fmt.Sprintf("%v/nq=%d", isa, nq), func(b *testing.B) {
				for b.Loop() {
					Attend(isa, out, lse, q, k, v, group, headDim, visible, 0.125, &s)
				}
				attend = b.Elapsed().Seconds() / float64(b.N)
				b.ReportMetric(4*slots*headDim/attend/1e9, "GB/s")
				b.ReportMetric(4*float64(nq)*group*slots*headDim/attend/1e9, "GOP/s")
			})
			for _, reduce := range []Reduce{Sum, Max} {
				b.Run(fmt.Sprintf("%v/nq=%d/columns=%d", isa, nq, reduce), func(b *testing.B) {
					for b.Loop() {
						Columns(isa, dst, q, lse, k, group, group, headDim, visible, 0.125, reduce, &s)
					}
					b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/attend, "of-attention")
				})
			}
		}
	}
}

// BenchmarkStep is all products of one step of a model of SmolLM2-135M's shape
// (30 layers, 576 wide, 1536 within, 3 of 9 heads with keys, 49,152 words) for n
// tokens, of which one needs the words' scores. It reports tokens/s, the GB/s
// of weights read and the billions of operations per second.
func BenchmarkStep(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	pack := func(t lesskernels.DType, rows, cols int) *Matrix {
		m, err := Pack(t, randomWeights(rng, t, rows*cols), rows, cols, Best())
		if err != nil {
			b.Fatal(err)
		}
		return m
	}
	const layers, dim, inner, words = 30, 576, 1536, 49152
	type layer struct{ q, k, v, o, gate, up, down *Matrix }
	var model []layer
	for range layers {
		model = append(model, layer{
			pack(lesskernels.Q4_1, dim, dim), pack(lesskernels.Q4_1, 192, dim), pack(lesskernels.Q4_1, 192, dim), pack(lesskernels.Q4_1, dim, dim),
			pack(lesskernels.Q4_1, inner, dim), pack(lesskernels.Q4_1, inner, dim), pack(lesskernels.Q4_1, dim, inner),
		})
	}
	output := pack(lesskernels.Q8_0, words, dim)
	bytes, products := output.Bytes(), 0
	for _, l := range model {
		for _, m := range []*Matrix{l.q, l.k, l.v, l.o, l.gate, l.up, l.down} {
			bytes += m.Bytes()
			products += m.rows * m.cols
		}
	}
	for _, threads := range []int{1, 2} {
		for _, n := range []int{1, 4, 8, 64, 512} {
			b.Run(fmt.Sprintf("threads=%d/n=%d", threads, n), func(b *testing.B) {
				pool := NewPool(threads)
				defer pool.Close()
				x, h := randomFloats(rng, n*dim), randomFloats(rng, n*inner)
				q, k, v := make([]float32, n*dim), make([]float32, n*192), make([]float32, n*192)
				gate, up, scores := make([]float32, n*inner), make([]float32, n*inner), make([]float32, words)
				var in, last Input
				for b.Loop() {
					for _, l := range model {
						in.Set(x, n, dim)
						MulAll(pool, &in, Product{Matrix: l.q, Dst: q}, Product{Matrix: l.k, Dst: k, Pairs: true}, Product{Matrix: l.v, Dst: v, Pairs: true})
						in.Set(x, n, dim)
						l.o.Mul(pool, q, &in)
						in.Set(x, n, dim)
						MulAll(pool, &in, Product{Matrix: l.gate, Dst: gate}, Product{Matrix: l.up, Dst: up})
						in.Set(h, n, inner)
						l.down.Mul(pool, q, &in)
					}
					last.Set(x, 1, dim)
					MulAll(pool, &last, Product{Matrix: output, Dst: scores, Pairs: true})
				}
				perSecond := float64(b.N) / b.Elapsed().Seconds()
				b.ReportMetric(perSecond*float64(n), "tokens/s")
				b.ReportMetric(perSecond*float64(bytes)/1e9, "GB/s")
				b.ReportMetric(perSecond*2*float64(products*n+words*dim)/1e9, "GOP/s")
			})
		}
	}
}

// BenchmarkPack is the repacking at load, in GB/s of packed weights.
func BenchmarkPack(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, t := range []lesskernels.DType{lesskernels.F32, lesskernels.F16, lesskernels.Q4_0, lesskernels.Q4_1, lesskernels.Q8_0, lesskernels.Q4_K, lesskernels.Q6_K} {
		b.Run(t.String(), func(b *testing.B) {
			const rows, cols = 1536, 768
			data := randomWeights(rng, t, rows*cols)
			var m *Matrix
			for b.Loop() {
				var err error
				if m, err = Pack(t, data, rows, cols, Best()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(m.Bytes())/1e9/b.Elapsed().Seconds(), "GB/s")
			b.ReportMetric(float64(b.N)*rows*cols/1e6/b.Elapsed().Seconds(), "Mweights/s")
		})
	}
}
