package embed

import (
	"fmt"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// layer is one encoder block.
type layer struct {
	qkv    linear // [3·hidden, hidden]: queries, keys and values in one product
	out    linear // [hidden, hidden]
	norm   layerNorm
	up     linear // [intermediate, hidden]
	down   linear // [hidden, intermediate]
	ffNorm layerNorm
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
	err    error
}

// encoder reads the weights that c describes.
func (l *loader) encoder(c config, pool *cpu.Pool) *encoder {
	e := &encoder{
		config:    c,
		pool:      pool,
		isa:       l.isa,
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
	self := at + "attention.self."
	return layer{
		qkv:    l.linear(c.Hidden, c.Hidden, self+"query", self+"key", self+"value"),
		out:    l.linear(c.Hidden, c.Hidden, at+"attention.output.dense"),
		norm:   l.norm(at+"attention.output.LayerNorm", c.Hidden),
		up:     l.linear(c.Intermediate, c.Hidden, at+"intermediate.dense"),
		down:   l.linear(c.Hidden, c.Intermediate, at+"output.dense"),
		ffNorm: l.norm(at+"output.LayerNorm", c.Hidden),
	}
}

// linear stacks the named projections [out, in], all of one storage type.
func (l *loader) linear(out, in int, names ...string) linear {
	var dtype lesskernels.DType
	var weight []byte
	var bias []float32
	for i, name := range names {
		t, data := l.bytes(name+".weight", out, in)
		bias = append(bias, l.floats(name+".bias", out)...)
		if i > 0 && t != dtype && l.err == nil {
			l.err = fmt.Errorf("tensor %q is %v, %q is %v", name, t, names[0], dtype)
		}
		dtype, weight = t, append(weight, data...)
	}
	if l.err != nil {
		return linear{}
	}
	pack := cpu.PackFloat32
	if l.isa >= cpu.AVX512 && in%wordColumns == 0 {
		pack = cpu.PackWords
	}
	m, err := pack(dtype, weight, len(names)*out, in, l.isa)
	l.err = err
	return linear{m, bias}
}

// wordColumns divides the columns of a matrix that products of 13-bit integers take:
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
