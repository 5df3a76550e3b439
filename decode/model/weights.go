package model

import (
	"errors"
	"fmt"

	"lessrag/decode/gguf"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// Math is how matrix products are computed.
type Math string

const (
	Int8    Math = "int8"    // quantised weights × activations rounded to int8 per block
	Float32 Math = "float32" // the dequantised weights in float32: the reference
)

// weights are a decoder's parameters, repacked for this machine.
type weights struct {
	embedding  *cpu.Matrix // [vocab, width]
	layers     []layer
	outputNorm []float32   // [width]
	output     *cpu.Matrix // [vocab, width]; the embedding where they are tied
	parameters int64
}

// layer is one transformer block. Matrices are [outputs, inputs].
type layer struct {
	attentionNorm []float32 // [width]
	q, k, v, o    *cpu.Matrix
	ffnNorm       []float32 // [width]
	gate, up      *cpu.Matrix
	down          *cpu.Matrix
}

// loader packs tensors and counts what it has used.
type loader struct {
	file *gguf.File
	pack func(lesskernels.DType, []byte, int, int, cpu.ISA) (*cpu.Matrix, error)
	isa  cpu.ISA
}

// load packs every tensor of the file, layers in parallel. A missing tensor, one
// of the wrong shape and one that the forward pass would ignore are errors.
func load(f *gguf.File, c Config, math Math, isa cpu.ISA, pool *cpu.Pool) (*weights, error) {
	l := loader{file: f, isa: isa}
	switch math {
	case Int8:
		l.pack = cpu.Pack
	case Float32:
		l.pack = cpu.PackFloat32
	default:
		return nil, fmt.Errorf("model: math %q is neither %s nor %s", math, Int8, Float32)
	}

	w := &weights{layers: make([]layer, c.Layers)}
	var err error
	if w.embedding, err = l.matrix("token_embd.weight", c.Vocab, c.Width); err != nil {
		return nil, err
	}
	w.output = w.embedding
	if _, ok := f.Tensor("output.weight"); ok {
		if w.output, err = l.matrix("output.weight", c.Vocab, c.Width); err != nil {
			return nil, err
		}
	}
	if w.outputNorm, err = vector(f, "output_norm.weight", c.Width); err != nil {
		return nil, err
	}
	failures := make([]error, c.Layers)
	pool.Run(c.Layers, func(i int) {
		w.layers[i], failures[i] = l.layer(i, c)
	})
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	w.parameters, err = countParameters(f, c)
	return w, err
}

func (l *loader) layer(i int, c Config) (layer, error) {
	var b layer
	for _, vec := range []struct {
		name string
		to   *[]float32
	}{{"attn_norm", &b.attentionNorm}, {"ffn_norm", &b.ffnNorm}} {
		v, err := vector(l.file, tensorName(i, vec.name), c.Width)
		if err != nil {
			return layer{}, err
		}
		*vec.to = v
	}
	for _, matrix := range []struct {
		name       string
		to         **cpu.Matrix
		rows, cols int
	}{
		{"attn_q", &b.q, c.Heads * c.HeadDim, c.Width},
		{"attn_k", &b.k, c.KVHeads * c.HeadDim, c.Width},
		{"attn_v", &b.v, c.KVHeads * c.HeadDim, c.Width},
		{"attn_output", &b.o, c.Width, c.Heads * c.HeadDim},
		{"ffn_gate", &b.gate, c.Hidden, c.Width},
		{"ffn_up", &b.up, c.Hidden, c.Width},
		{"ffn_down", &b.down, c.Width, c.Hidden},
	} {
		m, err := l.matrix(tensorName(i, matrix.name), matrix.rows, matrix.cols)
		if err != nil {
			return layer{}, err
		}
		*matrix.to = m
	}
	return b, nil
}

func tensorName(layer int, part string) string {
	return fmt.Sprintf("blk.%d.%s.weight", layer, part)
}

// matrix packs a tensor of the given shape.
func (l *loader) matrix(name string, rows, cols int) (*cpu.Matrix, error) {
	t, ok := l.file.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("model: tensor %s is missing", name)
	}
	if len(t.Dims) != 2 || t.Dims[0] != cols || t.Dims[1] != rows {
		return nil, fmt.Errorf("model: tensor %s has shape %v, expected [%d %d]", name, t.Dims, cols, rows)
	}
	m, err := l.pack(t.Type, t.Data, rows, cols, l.isa)
	if err != nil {
		return nil, fmt.Errorf("model: pack tensor %s: %w", name, err)
	}
	return m, nil
}

// vector dequantises a one-dimensional tensor of n values.
func vector(f *gguf.File, name string, n int) ([]float32, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("model: tensor %s is missing", name)
	}
	if len(t.Dims) != 1 || t.Dims[0] != n {
		return nil, fmt.Errorf("model: tensor %s has shape %v, expected [%d]", name, t.Dims, n)
	}
	v := make([]float32, n)
	if err := cpu.Dequantize(v, t.Type, t.Data); err != nil {
		return nil, fmt.Errorf("model: read tensor %s: %w", name, err)
	}
	return v, nil
}

// countParameters adds up the file's values and refuses tensors that the forward
// pass would ignore, such as biases: leaving them out gives another model.
func countParameters(f *gguf.File, c Config) (int64, error) {
	used := map[string]bool{"token_embd.weight": true, "output.weight": true, "output_norm.weight": true, "rope_freqs.weight": true}
	for i := range c.Layers {
		for _, part := range []string{"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"} {
			used[tensorName(i, part)] = true
		}
	}
	var total int64
	for _, t := range f.Tensors {
		if !used[t.Name] {
			return 0, fmt.Errorf("%w: tensor %s has no place in the llama architecture", ErrUnsupported, t.Name)
		}
		values := int64(1)
		for _, d := range t.Dims {
			values *= int64(d)
		}
		total += values
	}
	return total, nil
}

// bytes is the memory of the packed matrices; a tied one counts once.
func (w *weights) bytes() int64 {
	total := w.embedding.Bytes()
	if w.output != w.embedding {
		total += w.output.Bytes()
	}
	for _, m := range w.layerMatrices() {
		total += m.Bytes()
	}
	return total
}
