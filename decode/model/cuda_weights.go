package model

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"lessrag/decode/gguf"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// cudaWeights are a decoder's parameters on a device.
type cudaWeights struct {
	embedding  *cuda.Matrix // [vocab, width]
	layers     []cudaLayer
	outputNorm device.Pointer // [width] f32
	output     *cuda.Matrix   // [vocab, width]; the embedding where they are tied
	taken      []device.Pointer

	size, step, terms, parameters int64
}

type cudaLayer struct {
	attentionNorm, ffnNorm device.Pointer // [width] f32
	q, k, v, o             *cuda.Matrix
	gate, up, down         *cuda.Matrix
}

// packedCUDA are the tensors of a file in the order of the kernels, by their names.
type packedCUDA struct {
	matrices   map[string]*cuda.Packed
	vectors    map[string][]float32
	parameters int64
	layers     int
}

// layerMatrices and layerVectors are the names of a layer's tensors.
var (
	layerMatrices = []string{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"}
	layerVectors  = []string{"attn_norm", "ffn_norm"}
)

// packCUDA reads and packs every tensor of the file; what is missing, of the wrong shape
// or of no use is an error.
func packCUDA(f *gguf.File, c Config) (*packedCUDA, error) {
	p := &packedCUDA{matrices: map[string]*cuda.Packed{}, vectors: map[string][]float32{}, layers: c.Layers}
	shapes := map[string][2]int{"token_embd.weight": {c.Vocab, c.Width}}
	if _, ok := f.Tensor("output.weight"); ok {
		shapes["output.weight"] = [2]int{c.Vocab, c.Width}
	}
	vectors := []string{"output_norm.weight"}
	sizes := [][2]int{{c.Heads * c.HeadDim, c.Width}, {c.KVHeads * c.HeadDim, c.Width}, {c.KVHeads * c.HeadDim, c.Width},
		{c.Width, c.Heads * c.HeadDim}, {c.Hidden, c.Width}, {c.Hidden, c.Width}, {c.Width, c.Hidden}}
	for i := range c.Layers {
		for j, part := range layerMatrices {
			shapes[tensorName(i, part)] = sizes[j]
		}
		for _, part := range layerVectors {
			vectors = append(vectors, tensorName(i, part))
		}
	}
	err := p.packMatrices(f, shapes)
	if err != nil {
		return nil, err
	}
	for _, name := range vectors {
		if p.vectors[name], err = vector(f, name, c.Width); err != nil {
			return nil, err
		}
	}
	p.parameters, err = countParameters(f, c)
	return p, err
}

// packMatrices packs tensors of these shapes, each core one at a time.
func (p *packedCUDA) packMatrices(f *gguf.File, shapes map[string][2]int) error {
	names := slices.Sorted(maps.Keys(shapes))
	packed, errs := make([]*cuda.Packed, len(names)), make([]error, len(names))
	var next atomic.Int64
	var cores sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		cores.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(names); i = int(next.Add(1)) - 1 {
				shape := shapes[names[i]]
				packed[i], errs[i] = packTensor(f, names[i], shape[0], shape[1])
			}
		})
	}
	cores.Wait()
	for i, name := range names {
		if errs[i] != nil {
			return errs[i]
		}
		p.matrices[name] = packed[i]
	}
	return nil
}

func packTensor(f *gguf.File, name string, rows, cols int) (*cuda.Packed, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("model: tensor %s is missing", name)
	}
	if len(t.Dims) != 2 || t.Dims[0] != cols || t.Dims[1] != rows {
		return nil, fmt.Errorf("model: tensor %s has shape %v, expected [%d %d]", name, t.Dims, cols, rows)
	}
	m, err := cuda.Pack(t.Type, t.Data, rows, cols)
	if err != nil {
		return nil, fmt.Errorf("model: tensor %s: %w", name, err)
	}
	return m, nil
}

func (p *packedCUDA) bytes() int64 {
	total := int64(0)
	for _, m := range p.matrices {
		total += m.Bytes()
	}
	for _, v := range p.vectors {
		total += 4 * int64(len(v))
	}
	return total
}

// upload puts what was packed on the device.
func (w *cudaWeights) upload(p *packedCUDA, d device.Device, s device.Stream) error {
	matrices, vectors := map[string]*cuda.Matrix{}, map[string]device.Pointer{}
	for name, packed := range p.matrices {
		m, err := packed.Upload(d, s)
		if err != nil {
			return fmt.Errorf("model: tensor %s: %w", name, err)
		}
		w.taken = append(w.taken, m.Memory())
		matrices[name] = m
		if name != "token_embd.weight" {
			w.step += packed.Bytes()
		}
		if name != "token_embd.weight" && name != "output.weight" {
			w.terms += int64(m.Outs) * int64(m.Cols)
		}
	}
	for name, values := range p.vectors {
		at, err := d.Alloc(4 * int64(len(values)))
		if err != nil {
			return fmt.Errorf("model: tensor %s: %w", name, err)
		}
		w.taken = append(w.taken, at)
		if err := s.Upload(at, cuda.Bytes(values)); err != nil {
			return fmt.Errorf("model: tensor %s: %w", name, err)
		}
		vectors[name] = at
	}
	w.size, w.parameters = p.bytes(), p.parameters
	w.embedding, w.output, w.outputNorm = matrices["token_embd.weight"], matrices["output.weight"], vectors["output_norm.weight"]
	if w.output == nil {
		w.output = w.embedding
		w.step += p.matrices["token_embd.weight"].Bytes()
	}
	for i := range p.layers {
		at := func(part string) *cuda.Matrix { return matrices[tensorName(i, part)] }
		w.layers = append(w.layers, cudaLayer{attentionNorm: vectors[tensorName(i, "attn_norm")], ffnNorm: vectors[tensorName(i, "ffn_norm")],
			q: at("attn_q"), k: at("attn_k"), v: at("attn_v"), o: at("attn_output"), gate: at("ffn_gate"), up: at("ffn_up"), down: at("ffn_down")})
	}
	return nil
}

func (w *cudaWeights) free(d device.Device) {
	for _, p := range w.taken {
		d.Free(p)
	}
	w.taken = nil
}

// Parameters is how many values the model has.
func (c *CUDA) Parameters() int64 { return c.weights.parameters }

// WeightBytes is the memory of the packed weights, on the device.
func (c *CUDA) WeightBytes() int64 { return c.weights.size }

// StepBytes is what every pass reads of the weights.
func (c *CUDA) StepBytes() int64 { return c.weights.step }

// TokenTerms is how many multiplications with weights of layers a token takes.
func (c *CUDA) TokenTerms() int64 { return c.weights.terms }
