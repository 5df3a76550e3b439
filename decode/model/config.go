// Package model runs transformer decoders of the llama architecture read from
// GGUF files: their configuration, their weights and a forward pass on the CPU.
package model

import (
	"errors"
	"fmt"
	"math"

	"lessrag/decode/gguf"
)

// ErrUnsupported tells that a well-formed file holds a model that this package
// does not run.
var ErrUnsupported = errors.New("unsupported model")

// Config is the shape of a decoder.
type Config struct {
	Name         string
	Architecture string
	Layers       int
	Width        int // of the residual stream
	Hidden       int // of the feed-forward network
	Heads        int // query heads of a layer
	KVHeads      int // key-value heads of a layer; divides Heads
	HeadDim      int
	Vocab        int
	Context      int // tokens that the model was trained to attend
	Epsilon      float32
	RopeBase     float64
	RopeFactors  []float32 // nil, or [HeadDim/2] divisors of the rotary frequencies
}

// Group is how many query heads share a KV head.
func (c Config) Group() int { return c.Heads / c.KVHeads }

// The largest dimensions that are believed: beyond them a file is damaged, and
// their products stay far from overflow.
const (
	maxLayers  = 1 << 10
	maxWidth   = 1 << 17
	maxVocab   = 1 << 21
	maxContext = 1 << 24 // positions stay exact in float32
)

// NewConfig reads and checks a model's configuration. The tensors' shapes are
// checked when they are loaded.
func NewConfig(f *gguf.File) (Config, error) {
	var c Config
	c.Architecture, _ = f.String("general.architecture")
	if c.Architecture != "llama" {
		return Config{}, fmt.Errorf("%w: general.architecture is %q, and only llama is supported", ErrUnsupported, c.Architecture)
	}
	c.Name, _ = f.String("general.name")

	embedding, ok := f.Tensor("token_embd.weight")
	if !ok || len(embedding.Dims) != 2 {
		return Config{}, errors.New("model: token_embd.weight is missing or not a matrix")
	}
	c.Vocab = embedding.Dims[1]

	for _, field := range []struct {
		key   string
		to    *int
		most  int
		usual int // 0: required
	}{
		{"llama.block_count", &c.Layers, maxLayers, 0},
		{"llama.embedding_length", &c.Width, maxWidth, 0},
		{"llama.feed_forward_length", &c.Hidden, maxWidth, 0},
		{"llama.attention.head_count", &c.Heads, maxLayers, 0},
		{"llama.attention.head_count_kv", &c.KVHeads, maxLayers, -1},
		{"llama.attention.key_length", &c.HeadDim, maxWidth, -1},
		{"llama.context_length", &c.Context, maxContext, 0},
	} {
		value, ok := f.Int(field.key)
		if !ok && field.usual != 0 {
			continue
		}
		if !ok {
			return Config{}, fmt.Errorf("model: %s is missing or not a whole number", field.key)
		}
		if value < 1 || value > field.most {
			return Config{}, fmt.Errorf("model: %s is %d, outside 1…%d", field.key, value, field.most)
		}
		*field.to = value
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 {
		c.HeadDim = c.Width / c.Heads
	}
	if err := c.check(f); err != nil {
		return Config{}, err
	}
	return c, c.readRope(f)
}

// check refuses what the forward pass does not compute.
func (c *Config) check(f *gguf.File) error {
	switch {
	case c.Vocab < 1 || c.Vocab > maxVocab:
		return fmt.Errorf("model: a vocabulary of %d tokens, outside 1…%d", c.Vocab, maxVocab)
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("model: %d query heads are no multiple of %d KV heads", c.Heads, c.KVHeads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("model: rotary positions need an even head dimension, not %d", c.HeadDim)
	}
	if value, ok := f.Int("llama.attention.value_length"); ok && value != c.HeadDim {
		return fmt.Errorf("%w: values of dimension %d beside keys of dimension %d", ErrUnsupported, value, c.HeadDim)
	}
	if experts, ok := f.Int("llama.expert_count"); ok && experts > 0 {
		return fmt.Errorf("%w: a mixture of %d experts", ErrUnsupported, experts)
	}
	if window, ok := f.Int("llama.attention.sliding_window"); ok && window > 0 {
		return fmt.Errorf("%w: sliding-window attention", ErrUnsupported)
	}
	epsilon, ok := f.Float("llama.attention.layer_norm_rms_epsilon")
	if !ok || !(epsilon > 0 && epsilon < 1) {
		return errors.New("model: llama.attention.layer_norm_rms_epsilon is missing or not between 0 and 1")
	}
	c.Epsilon = float32(epsilon)
	return nil
}

// readRope reads how positions turn queries and keys.
func (c *Config) readRope(f *gguf.File) error {
	if dims, ok := f.Int("llama.rope.dimension_count"); ok && dims != c.HeadDim {
		return fmt.Errorf("%w: rotary positions on %d of %d dimensions", ErrUnsupported, dims, c.HeadDim)
	}
	if scaling, ok := f.String("llama.rope.scaling.type"); ok && scaling != "none" {
		return fmt.Errorf("%w: rotary scaling of type %q", ErrUnsupported, scaling)
	}
	c.RopeBase = 10000
	if base, ok := f.Float("llama.rope.freq_base"); ok {
		if !(base > 1 && base < 1e12) {
			return fmt.Errorf("model: llama.rope.freq_base is %v", base)
		}
		c.RopeBase = base
	}
	if _, ok := f.Tensor("rope_freqs.weight"); ok {
		factors, err := vector(f, "rope_freqs.weight", c.HeadDim/2)
		if err != nil {
			return err
		}
		for _, factor := range factors {
			if !(factor > 0) || math.IsInf(float64(factor), 0) {
				return errors.New("model: rope_freqs.weight has a factor that is not positive")
			}
		}
		c.RopeFactors = factors
	}
	return nil
}

// frequencies are the rotary angles per position: [HeadDim/2].
func (c Config) frequencies() []float64 {
	f := make([]float64, c.HeadDim/2)
	for i := range f {
		f[i] = math.Pow(c.RopeBase, -2*float64(i)/float64(c.HeadDim))
		if c.RopeFactors != nil {
			f[i] /= float64(c.RopeFactors[i])
		}
	}
	return f
}
