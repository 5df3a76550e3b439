package embed

import (
	"fmt"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// layer is one encoder block.
type layer struct {
	heads  []head
	out    linear // [hidden, hidden]
	norm   layerNorm
	up     linear // [intermediate, hidden]
	down   linear // [hidden, intermediate]
	ffNorm layerNorm
}

// head is an attention head. Its keys have no bias, which would add the same to all scores of a
// query; that of the values passes through the weights, whose sum is 1, and is in layer.out's.
type head struct {
	query        linear      // [headDim, hidden]
	keys, values *cpu.Matrix // [headDim, hidden]
}

// linear is y = x·Wᵀ + bias.
type linear struct {
	weight *cpu.Matrix // [out, in]
	bias   []float32   // [out]
}

// layerNorm is a LayerNorm's weights.
type layerNorm struct{ weight, bias []float32 }

// loader reads tensors in the names of transformers' BertModel and keeps the
// first error; after it, everything it returns is empty.
type loader struct {
	file   *lesskernels.Safetensors
	prefix string // before every name of the encoder
	isa    cpu.ISA
	rounds bool // see encoder
	err    error
}

// encoder reads the weights that c describes.
func (l *loader) encoder(c config, pool *cpu.Pool) *encoder {
	l.rounds = l.isa >= cpu.AVX512 && c.Hidden%wordColumns == 0 && c.Intermediate%wordColumns == 0
	e := &encoder{
		config:    c,
		pool:      pool,
		isa:       l.isa,
		rounds:    l.rounds,
		words:     l.floats("embeddings.word_embeddings.weight", c.Vocabulary, c.Hidden),
		positions: l.floats("embeddings.position_embeddings.weight", c.Positions, c.Hidden),
		norm:      l.norm("embeddings.LayerNorm", c.Hidden),
	}
	types := l.floats("embeddings.token_type_embeddings.weight", c.Types, c.Hidden)
	for i := 0; l.err == nil && i < c.Positions; i++ {
		cpu.Axpy(e.positions[i*c.Hidden:][:c.Hidden], 1, types[:c.Hidden])
	}
	if l.err == nil && c.Types > 1 {
		e.second = types[c.Hidden:][:c.Hidden]
		cpu.Axpy(e.second, -1, types[:c.Hidden])
	}
	for i := 0; l.err == nil && i < c.Layers; i++ {
		e.layers = append(e.layers, l.layer(fmt.Sprintf("encoder.layer.%d.", i), c))
	}
	return e
}

func (l *loader) layer(at string, c config) layer {
	out := l.linear(c.Hidden, c.Hidden, at+"attention.output.dense")
	return layer{
		heads:  l.heads(at+"attention.self.", c, &out),
		out:    out,
		norm:   l.norm(at+"attention.output.LayerNorm", c.Hidden),
		up:     l.linear(c.Intermediate, c.Hidden, at+"intermediate.dense"),
		down:   l.linear(c.Hidden, c.Intermediate, at+"output.dense"),
		ffNorm: l.norm(at+"output.LayerNorm", c.Hidden),
	}
}

// heads cuts the projections of queries, keys and values [hidden, hidden] into those of the
// heads, so that what a head needs of a text lies together, and adds the values' bias to out's.
func (l *loader) heads(self string, c config, out *linear) []head {
	query, key, value := l.cut(self+"query.weight", c), l.cut(self+"key.weight", c), l.cut(self+"value.weight", c)
	bias, valueBias := l.floats(self+"query.bias", c.Hidden), l.floats(self+"value.bias", c.Hidden)
	if l.err != nil {
		return nil
	}
	heads := make([]head, c.Heads)
	for h := range heads {
		heads[h] = head{linear{query[h], bias[h*c.headDimension:][:c.headDimension]}, key[h], value[h]}
	}
	row := make([]float32, c.Hidden)
	for i := range out.bias {
		out.weight.Row(row, i)
		out.bias[i] += cpu.Dot(row, valueBias)
	}
	return heads
}

// cut reads a projection and packs the rows of each head.
func (l *loader) cut(name string, c config) []*cpu.Matrix {
	dtype, data := l.bytes(name, c.Hidden, c.Hidden)
	parts := make([]*cpu.Matrix, c.Heads)
	for h := range parts {
		size := len(data) / c.Heads
		parts[h] = l.pack(dtype, data[h*size:][:size], c.headDimension, c.Hidden)
	}
	return parts
}

// linear reads a projection [out, in] with its bias.
func (l *loader) linear(out, in int, name string) linear {
	dtype, data := l.bytes(name+".weight", out, in)
	return linear{l.pack(dtype, data, out, in), l.floats(name+".bias", out)}
}

// pack repacks a matrix [out, in] for products.
func (l *loader) pack(dtype lesskernels.DType, data []byte, out, in int) *cpu.Matrix {
	if l.err != nil {
		return nil
	}
	pack := cpu.PackFloat32
	if l.rounds {
		pack = cpu.PackWords
	}
	m, err := pack(dtype, data, out, in, l.isa)
	l.err = err
	return m
}

// wordColumns divides the columns of matrices that products of 13-bit integers take:
// twice as fast as float32 where there are kernels for it, in half of the memory.
// TestEmbedReference holds how little they change.
const wordColumns = 128

func (l *loader) norm(name string, size int) layerNorm {
	return layerNorm{l.floats(name+".weight", size), l.floats(name+".bias", size)}
}

func (l *loader) floats(name string, shape ...int) []float32 {
	dtype, data := l.bytes(name, shape...)
	if l.err != nil {
		return nil
	}
	n := 1
	for _, dim := range shape {
		n *= dim
	}
	values := make([]float32, n)
	l.err = cpu.Dequantize(values, dtype, data)
	return values
}

func (l *loader) bytes(name string, shape ...int) (lesskernels.DType, []byte) {
	if l.err != nil {
		return 0, nil
	}
	dtype, data, err := l.file.Bytes(l.prefix+name, shape...)
	l.err = err
	return dtype, data
}
