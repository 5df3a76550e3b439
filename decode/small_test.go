package decode

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"lessrag/decode/gguf"
	"lessrag/decode/gguf/gguftest"
	"lessrag/decode/model"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// The small model: two layers of random weights, with a context as long as the
// default reader's. It says nothing of sense, always the same.
const (
	smallLayers, smallWidth, smallHidden = 2, 64, 96
	smallHeads, smallKVHeads, smallDim   = 6, 2, 16
	smallVocab, smallContext             = 96, 8192
)

// smallModel writes the small model.
func smallModel() []byte {
	random := rand.New(rand.NewPCG(11, 12))
	f := gguftest.File{Keys: []gguftest.Key{
		{Name: "general.architecture", Value: "llama"},
		{Name: "llama.block_count", Value: uint32(smallLayers)},
		{Name: "llama.embedding_length", Value: uint32(smallWidth)},
		{Name: "llama.feed_forward_length", Value: uint32(smallHidden)},
		{Name: "llama.attention.head_count", Value: uint32(smallHeads)},
		{Name: "llama.attention.head_count_kv", Value: uint32(smallKVHeads)},
		{Name: "llama.attention.key_length", Value: uint32(smallDim)},
		{Name: "llama.context_length", Value: uint32(smallContext)},
		{Name: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
	}}
	add := func(name string, centre, spread float64, dims ...uint64) {
		n := uint64(1)
		for _, d := range dims {
			n *= d
		}
		var data []byte
		for range n {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(centre+spread*random.NormFloat64())))
		}
		f.Tensors = append(f.Tensors, gguftest.Tensor{Name: name + ".weight", Type: lesskernels.F32, Dims: dims, Data: data})
	}
	matrix := func(name string, rows, cols int) {
		add(name, 0, 1.5/math.Sqrt(float64(cols)), uint64(cols), uint64(rows))
	}
	add("token_embd", 0, 1, smallWidth, smallVocab)
	matrix("output", smallVocab, smallWidth)
	add("output_norm", 1, 0.2, smallWidth)
	for i := range smallLayers {
		name := func(part string) string { return fmt.Sprintf("blk.%d.%s", i, part) }
		add(name("attn_norm"), 1, 0.2, smallWidth)
		add(name("ffn_norm"), 1, 0.2, smallWidth)
		matrix(name("attn_q"), smallHeads*smallDim, smallWidth)
		matrix(name("attn_k"), smallKVHeads*smallDim, smallWidth)
		matrix(name("attn_v"), smallKVHeads*smallDim, smallWidth)
		matrix(name("attn_output"), smallWidth, smallHeads*smallDim)
		matrix(name("ffn_gate"), smallHidden, smallWidth)
		matrix(name("ffn_up"), smallHidden, smallWidth)
		matrix(name("ffn_down"), smallWidth, smallHidden)
	}
	return f.Bytes()
}

// openSmall starts an engine over the small model, with feature maps where they
// are given.
func openSmall(t testing.TB, o Options, maps *lesskernels.Maps) *Engine {
	t.Helper()
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(smallModel())
	if err != nil {
		t.Fatal(err)
	}
	pool := cpu.NewPool(o.Threads)
	t.Cleanup(pool.Close)
	backend, err := model.NewCPU(f, model.Math(o.Math), o.limits(), pool)
	if err != nil {
		t.Fatal(err)
	}
	if maps != nil {
		if err := backend.UseMaps(maps); err != nil {
			t.Fatal(err)
		}
	}
	e := newEngine(backend, vocabulary{
		piece: func(token int32) []byte { return []byte{byte(' ' + token)} },
		isEnd: func(int32) bool { return false },
	}, o, nil)
	t.Cleanup(e.Close)
	return e
}

// smallTokens are n random tokens of the small model.
func smallTokens(seed uint64, n int) []int32 {
	random := rand.New(rand.NewPCG(seed, 1))
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = random.Int32N(smallVocab)
	}
	return tokens
}

// smallMaps are random feature maps for the small model: R numbers that are
// absorbed and asked, and mean nothing. One KV head has none.
func smallMaps() *lesskernels.Maps {
	shape := lesskernels.FeatureShape{Heads: smallHeads, KVHeads: smallKVHeads, HeadDim: smallDim, Hidden: 24, Rank: 5}
	return randomMaps(smallLayers, shape, [][]float32{{-1, 0.5}, {float32(math.Inf(-1)), 0.5}})
}

// randomMaps are feature maps of a shape with those gates [layers][kvHeads].
func randomMaps(layers int, shape lesskernels.FeatureShape, scales [][]float32) *lesskernels.Maps {
	random := rand.New(rand.NewPCG(13, 14))
	weights := func(n int) []float32 {
		w := make([]float32, n)
		for i := range w {
			w[i] = float32(random.NormFloat64()) / 4
		}
		return w
	}
	m := &lesskernels.Maps{Header: lesskernels.Header{Layers: layers, Shape: shape, Inputs: lesskernels.PreRoPE}}
	for range layers {
		m.Layers = append(m.Layers, &lesskernels.FeatureMap{FeatureShape: shape, FeatureWeights: lesskernels.FeatureWeights{
			Wq1: weights(shape.Heads * shape.HeadDim * shape.Hidden), Wq2: weights(shape.Heads * shape.Hidden * shape.Rank),
			Wk1: weights(shape.KVHeads * shape.HeadDim * shape.Hidden), Wk2: weights(shape.KVHeads * shape.Hidden * shape.Rank),
			Wk3: weights(shape.KVHeads * shape.Rank * shape.Rank),
			S1:  weights(shape.KVHeads * shape.Rank), S2: weights(shape.KVHeads * shape.Rank), Fade: weights(shape.KVHeads * shape.Rank),
		}})
		for i, x := range m.Layers[len(m.Layers)-1].Fade {
			m.Layers[len(m.Layers)-1].Fade[i] = 8*x - 5
		}
	}
	m.SetGate(lesskernels.Others, scales, lesskernels.GateReport{Validated: 1 << 20})
	return m
}
