package gguftest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/x448/float16"

	"lessrag/lesskernels"
)

// Model is a llama with weights of no meaning, always the same, of quantised types.
type Model struct {
	Layers, Width, Hidden, Heads, KVHeads, HeadDim int
	Matrices                                       lesskernels.DType // of layers
	Embedding                                      lesskernels.DType
	Output                                         lesskernels.DType // 0: the embedding's matrix is used
	Context                                        int               // 0: Context
}

// Vocab and Context are a Model's.
const (
	Vocab   = 96
	Context = 256
)

// Bytes writes the model's file.
func (q Model) Bytes() []byte {
	file := File{Keys: []Key{
		{Name: "general.architecture", Value: "llama"},
		{Name: "llama.block_count", Value: uint32(q.Layers)},
		{Name: "llama.embedding_length", Value: uint32(q.Width)},
		{Name: "llama.feed_forward_length", Value: uint32(q.Hidden)},
		{Name: "llama.attention.head_count", Value: uint32(q.Heads)},
		{Name: "llama.attention.head_count_kv", Value: uint32(q.KVHeads)},
		{Name: "llama.attention.key_length", Value: uint32(q.HeadDim)},
		{Name: "llama.context_length", Value: uint32(cmp.Or(q.Context, Context))},
		{Name: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
	}}
	random := rand.New(rand.NewPCG(5, 6))
	add := func(name string, kind lesskernels.DType, cols, rows int, deviation float64) {
		dims := []uint64{uint64(cols), uint64(rows)}
		if rows == 0 {
			dims = dims[:1]
		}
		file.Tensors = append(file.Tensors, Tensor{Name: name + ".weight", Type: kind, Dims: dims, Data: blocksOf(random, kind, cols*max(1, rows), deviation)})
	}
	matrix := func(name string, cols, rows int) { add(name, q.Matrices, cols, rows, 1.5/math.Sqrt(float64(cols))) }
	add("token_embd", q.Embedding, q.Width, Vocab, 1)
	if q.Output != 0 {
		add("output", q.Output, q.Width, Vocab, 1.5/math.Sqrt(float64(q.Width)))
	}
	add("output_norm", lesskernels.F32, q.Width, 0, 0)
	for i := range q.Layers {
		block := fmt.Sprintf("blk.%d.", i)
		add(block+"attn_norm", lesskernels.F32, q.Width, 0, 0)
		add(block+"ffn_norm", lesskernels.F32, q.Width, 0, 0)
		matrix(block+"attn_q", q.Width, q.Heads*q.HeadDim)
		matrix(block+"attn_k", q.Width, q.KVHeads*q.HeadDim)
		matrix(block+"attn_v", q.Width, q.KVHeads*q.HeadDim)
		matrix(block+"attn_output", q.Heads*q.HeadDim, q.Width)
		matrix(block+"ffn_gate", q.Width, q.Hidden)
		matrix(block+"ffn_up", q.Width, q.Hidden)
		matrix(block+"ffn_down", q.Hidden, q.Width)
	}
	return file.Bytes()
}

// blocksOf are n random values of a type, of a mean of 0 and a deviation; around 1, where that is 0.
func blocksOf(random *rand.Rand, kind lesskernels.DType, n int, deviation float64) []byte {
	values, size, _ := kind.BlockSize()
	data := make([]byte, int64(n)/values*size)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	half := func(b []byte, x float64) { binary.LittleEndian.PutUint16(b, float16.Fromfloat32(float32(x)).Bits()) }
	for at := 0; at < len(data); at += int(size) {
		b := data[at:][:size]
		switch kind {
		case lesskernels.F32:
			x := 0.5 + random.Float64() // what norms multiply by
			if deviation != 0 {
				x = deviation * random.NormFloat64()
			}
			binary.LittleEndian.PutUint32(b, math.Float32bits(float32(x)))
		case lesskernels.F16:
			half(b, deviation*random.NormFloat64())
		case lesskernels.BF16:
			binary.LittleEndian.PutUint16(b, uint16(math.Float32bits(float32(deviation*random.NormFloat64()))>>16))
		case lesskernels.Q4_0:
			half(b, deviation/4.6)
		case lesskernels.Q5_0:
			half(b, deviation/9.2)
		case lesskernels.Q5_1:
			half(b, deviation/9.2)
			half(b[2:], -15.5*deviation/9.2)
		case lesskernels.Q4_K, lesskernels.Q5_K: // scales up to 63, minima likewise
			codes := map[lesskernels.DType]float64{lesskernels.Q4_K: 15, lesskernels.Q5_K: 31}[kind]
			half(b, deviation/9/codes)
			half(b[2:], deviation/9/2)
		case lesskernels.Q4_1:
			half(b, deviation/4.6)
			half(b[2:], -7.5*deviation/4.6)
		case lesskernels.Q8_0:
			half(b, deviation/74)
		case lesskernels.Q6_K:
			for i := range 16 {
				b[192+i] = byte(int8(1 + random.IntN(3)))
			}
			half(b[208:], deviation/40)
		}
	}
	return data
}
