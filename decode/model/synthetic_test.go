package model

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/decode/gguf/gguftest"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// synthetic is a model of one layer with weights of no meaning.
func synthetic(t *testing.T, m Math, headDim, group, kvHeads, context int) *CPU {
	t.Helper()
	const width, hidden, vocab = 32, 32, 32
	heads := group * kvHeads
	file := gguftest.File{Keys: []gguftest.Key{
		{Name: "general.architecture", Value: "llama"},
		{Name: "llama.block_count", Value: uint32(1)},
		{Name: "llama.embedding_length", Value: uint32(width)},
		{Name: "llama.feed_forward_length", Value: uint32(hidden)},
		{Name: "llama.attention.head_count", Value: uint32(heads)},
		{Name: "llama.attention.head_count_kv", Value: uint32(kvHeads)},
		{Name: "llama.attention.key_length", Value: uint32(headDim)},
		{Name: "llama.context_length", Value: uint32(context)},
		{Name: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
	}}
	random := rand.New(rand.NewPCG(1, 2))
	for _, tensor := range []struct {
		name       string
		cols, rows int
	}{
		{"token_embd", width, vocab}, {"output_norm", width, 0}, {"blk.0.attn_norm", width, 0}, {"blk.0.ffn_norm", width, 0},
		{"blk.0.attn_q", width, heads * headDim}, {"blk.0.attn_k", width, kvHeads * headDim}, {"blk.0.attn_v", width, kvHeads * headDim},
		{"blk.0.attn_output", heads * headDim, width}, {"blk.0.ffn_gate", width, hidden}, {"blk.0.ffn_up", width, hidden}, {"blk.0.ffn_down", hidden, width},
	} {
		dims := []uint64{uint64(tensor.cols)}
		if tensor.rows > 0 {
			dims = append(dims, uint64(tensor.rows))
		}
		var data bytes.Buffer
		for range tensor.cols * max(1, tensor.rows) {
			binary.Write(&data, binary.LittleEndian, float32(random.NormFloat64()*0.2))
		}
		file.Tensors = append(file.Tensors, gguftest.Tensor{Name: tensor.name + ".weight", Type: lesskernels.F32, Dims: dims, Data: data.Bytes()})
	}
	f, err := gguf.Parse(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	pool := cpu.NewPool(2)
	t.Cleanup(pool.Close)
	c, err := NewCPU(f, m, Limits{Tokens: 128, Sequences: 8}, pool)
	if err != nil {
		t.Fatal(err)
	}
	c.isa = min(c.isa, cpu.AVX512) // attention in float32 everywhere: what is checked is to hold to its rounding
	return c
}

// syntheticMaps are feature maps for a model of any shape, of weights that bf16
// holds, whose states weigh about as much as exact attention.
func syntheticMaps(c Config, rank int, inputs lesskernels.Inputs, gate func(layer, kvHead int) float32) *lesskernels.Maps {
	return syntheticMapsOf(c, 24, rank, inputs, gate)
}

// fade are n rates of chance: some features hardly fade, some as fast as any may.
func fade(n int) []float32 {
	random, x := rand.New(rand.NewPCG(5, 6)), make([]float32, n)
	for i := range x {
		x[i] = float32(2*random.NormFloat64() - 5)
	}
	return x
}

// syntheticMapsOf are syntheticMaps with so many hidden values.
func syntheticMapsOf(c Config, hidden, rank int, inputs lesskernels.Inputs, gate func(layer, kvHead int) float32) *lesskernels.Maps {
	random := rand.New(rand.NewPCG(3, 4))
	numbers := func(n int, scale float64) []float32 {
		x, rounded := make([]float32, n), make([]uint16, n)
		for i := range x {
			x[i] = float32(random.NormFloat64() * scale)
		}
		cpu.BF16(rounded, x)
		for i, r := range rounded {
			x[i] = math.Float32frombits(uint32(r) << 16)
		}
		return x
	}
	shape := lesskernels.FeatureShape{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim, Hidden: hidden, Rank: rank}
	maps := &lesskernels.Maps{Header: lesskernels.Header{Inputs: inputs, Layers: c.Layers, Shape: shape}}
	var scales [][]float32
	for layer := range c.Layers {
		f, err := lesskernels.NewFeatureMap(shape, lesskernels.FeatureWeights{
			Wq1: numbers(c.Heads*c.HeadDim*hidden, 1/math.Sqrt(float64(c.HeadDim))),
			Wq2: numbers(c.Heads*hidden*rank, 0.4),
			Wk1: numbers(c.KVHeads*c.HeadDim*hidden, 1/math.Sqrt(float64(c.HeadDim))),
			Wk2: numbers(c.KVHeads*hidden*rank, 0.4),
			Wk3: numbers(c.KVHeads*rank*rank, 0.3),
			S1:  numbers(c.KVHeads*rank, 1), S2: numbers(c.KVHeads*rank, 0.5),
			Fade: fade(c.KVHeads * rank),
		})
		if err != nil {
			panic(err)
		}
		maps.Layers = append(maps.Layers, f)
		scales = append(scales, make([]float32, c.KVHeads))
		for head := range c.KVHeads {
			scales[layer][head] = gate(layer, head)
		}
	}
	maps.SetGate(lesskernels.Others, scales, lesskernels.GateReport{Validated: math.MaxInt32})
	return maps
}

// layerRun feeds queries, keys and values of chance through the attention of one
// sequence in the one layer of a synthetic model.
type layerRun struct {
	t        *testing.T
	c        *CPU
	s        *cache.Sequence
	q, k, v  []float32 // [tokens, heads, headDim], [tokens, kvHeads, headDim], not rotated
	question int       // of the next block's tokens
	probing  bool      // the next block is a probe

	out      []float32   // [tokens, heads, headDim]
	held     [][][]int32 // [tokens][kvHeads] positions that a token saw exactly, before its block
	first    []int       // [tokens] of the token's block
	storedK  []uint16    // [tokens, kvHeads, stored]
	storedV  []uint16
	segments [][][]uint16 // [tokens][kvHeads] the keys of held, as they lay there
}

func newLayerRun(t *testing.T, c *CPU, spec string, budget cache.Budget, interval, tokens int) *layerRun {
	t.Helper()
	r := &layerRun{t: t, c: c, s: newSequenceEvery(t, c, spec, budget, interval)}
	random := rand.New(rand.NewPCG(5, 6))
	numbers := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(random.NormFloat64())
		}
		return x
	}
	config := c.config
	r.q = numbers(tokens * config.Heads * config.HeadDim)
	r.k = numbers(tokens * config.KVHeads * config.HeadDim)
	r.v = numbers(tokens * config.KVHeads * config.HeadDim)
	return r
}

// feed runs the next n tokens.
func (r *layerRun) feed(n int) {
	r.t.Helper()
	c, config, from := r.c, r.c.config, r.s.Position()
	b, err := c.newBatch([]Work{{Sequence: r.s, Tokens: make([]int32, n), Question: r.question, Probe: r.probing}})
	if err != nil {
		r.t.Fatal(err)
	}
	c.embed(b)
	copy(c.q, r.q[from*config.Heads*config.HeadDim:][:n*config.Heads*config.HeadDim])
	copy(c.k, r.k[from*config.KVHeads*config.HeadDim:][:n*config.KVHeads*config.HeadDim])
	copy(c.v, r.v[from*config.KVHeads*config.HeadDim:][:n*config.KVHeads*config.HeadDim])
	c.rope(b)
	c.store(b, 0, 0)
	held, segment := make([][]int32, config.KVHeads), make([][]uint16, config.KVHeads)
	for head := range config.KVHeads {
		for _, position := range r.s.Positions(0, head) {
			if int(position) < from {
				held[head] = append(held[head], position)
			}
		}
		k, _ := r.s.Segment(0, head)
		segment[head] = append(segment[head], k[:len(held[head])*c.stored]...)
	}
	for i := range n {
		for head := range config.KVHeads {
			r.storedK = append(r.storedK, rowOf(c.blockK, head*n+i, c.stored)...)
			r.storedV = append(r.storedV, rowOf(c.blockV, head*n+i, c.stored)...)
		}
		r.held, r.first, r.segments = append(r.held, held), append(r.first, from), append(r.segments, segment)
	}
	c.attend(b, 0)
	c.observe(b, 0)
	c.evict(b, 0, 0)
	b.advance()
	r.out = append(r.out, c.attention[:n*config.Heads*config.HeadDim]...)
	if held := r.s.Held(); held.Bytes > r.s.Plan().Bytes {
		r.t.Fatalf("position %d: held %d bytes, planned %d", r.s.Position(), held.Bytes, r.s.Plan().Bytes)
	}
}

// probe runs the next n tokens and forgets them.
func (r *layerRun) probe(n int) {
	r.t.Helper()
	at := len(r.held)
	r.question, r.probing = n, true
	r.feed(n)
	r.question, r.probing = 0, false
	config := r.c.config
	r.out = r.out[:at*config.Heads*config.HeadDim]
	r.held, r.first, r.segments = r.held[:at], r.first[:at], r.segments[:at]
	r.storedK, r.storedV = r.storedK[:at*config.KVHeads*r.c.stored], r.storedV[:at*config.KVHeads*r.c.stored]
}

// feedAll runs all tokens in blocks of these sizes, over and over.
func (r *layerRun) feedAll(blocks ...int) *layerRun {
	r.t.Helper()
	tokens := len(r.k) / (r.c.config.KVHeads * r.c.config.HeadDim)
	for i := 0; r.s.Position() < tokens; i++ {
		r.feed(min(blocks[i%len(blocks)], tokens-r.s.Position()))
	}
	return r
}

// wide is a stored key or value in float64.
func (r *layerRun) wide(stored []uint16, token, kvHead int) []float64 {
	x := make([]float32, r.c.config.HeadDim)
	r.c.widen(x, rowOf(stored, token*r.c.config.KVHeads+kvHead, r.c.stored))
	return doubles(x)
}

func doubles(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func singles(x []float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(v)
	}
	return y
}

// turned is a key or query rotated by positions, in float64.
func (c *CPU) turned(x []float64, by int) []float64 {
	y := make([]float64, len(x))
	for i, frequency := range c.frequencies {
		sin, cos := math.Sincos(float64(by) * frequency)
		y[2*i], y[2*i+1] = x[2*i]*cos-x[2*i+1]*sin, x[2*i]*sin+x[2*i+1]*cos
	}
	return y
}

func dot64(x, y []float64) float64 {
	sum := 0.0
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}

// segment64 is attention over some tokens, in float64.
type segment64 struct {
	out []float64
	lse float64
}

func (s *segment64) merge(o segment64) {
	lse := math.Max(s.lse, o.lse) + math.Log1p(math.Exp(-math.Abs(s.lse-o.lse)))
	for i := range s.out {
		s.out[i] = math.Exp(s.lse-lse)*s.out[i] + math.Exp(o.lse-lse)*o.out[i]
	}
	s.lse = lse
}

// weigh is the segment of values with weights e^logs.
func weigh(logs []float64, values [][]float64, dim int) segment64 {
	peak, total := math.Inf(-1), 0.0
	for _, l := range logs {
		peak = math.Max(peak, l)
	}
	s := segment64{out: make([]float64, dim)}
	for i, l := range logs {
		w := math.Exp(l - peak)
		total += w
		for j, v := range values[i] {
			s.out[j] += w * v
		}
	}
	for j := range s.out {
		s.out[j] /= total
	}
	s.lse = peak + math.Log(total)
	return s
}

// absent are the positions below n that are not among held.
func absent(held []int32, n int) []int {
	var out []int
	for p := range n {
		if len(held) > 0 && int(held[0]) == p {
			held = held[1:]
			continue
		}
		out = append(out, p)
	}
	return out
}
