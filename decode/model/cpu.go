package model

import (
	"fmt"
	"math"

	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/lesskernels/cpu"
)

// Limits bound a batch, and with it the scratch of a backend.
type Limits struct {
	Tokens    int // of all blocks of a batch
	Sequences int // in a batch
	Staging   int // tokens of a prompt in a staging sequence, for which a card sees to it that there is memory
	Blend     int // likewise, of a prompt that is put together from passages, or of a passage that is computed; 0: none is
}

func (l Limits) check() error {
	if l.Tokens < 1 || l.Sequences < 1 || l.Tokens < l.Sequences || l.Staging < 0 || l.Blend < 0 {
		return fmt.Errorf("model: limits of %d tokens and %d sequences, %d tokens staged and %d blended", l.Tokens, l.Sequences, l.Staging, l.Blend)
	}
	return nil
}

// CPU is the backend that computes on this machine's cores. One goroutine uses
// it at a time.
type CPU struct {
	config      Config
	math        Math
	isa         cpu.ISA
	pool        *cpu.Pool
	weights     *weights
	limits      Limits
	frequencies []float64 // [headDim/2]
	scale       float32   // of attention scores
	stored      int       // bf16 values that a key or a value is stored in: headDim, or twice that
	evictions   cache.Scratch
	memory      memory
	steps       steps
	turning     []float32 // [2, headDim] scratch of turn
	batch       batch
	programs    []program // of steps of few answers; nil: there are none
	activations

	// Clock, if not nil, is given the time of every stage of Forward. Whoever calls
	// Forward starts it.
	Clock *Clock
}

// NewCPU packs the model of a GGUF file. The file may be closed afterwards. The
// pool stays the caller's.
func NewCPU(f *gguf.File, m Math, limits Limits, pool *cpu.Pool) (*CPU, error) {
	c, err := NewConfig(f)
	if err != nil {
		return nil, err
	}
	if err := limits.check(); err != nil {
		return nil, err
	}
	isa := cpu.Best()
	w, err := load(f, c, m, isa, pool)
	if err != nil {
		return nil, err
	}
	stored := c.HeadDim
	if m == Float32 {
		stored *= 2
	}
	backend := &CPU{config: c, math: m, isa: isa, pool: pool, weights: w, limits: limits,
		frequencies: c.frequencies(), scale: float32(1 / math.Sqrt(float64(c.HeadDim))), stored: stored,
		activations: newActivations(c, stored, limits, pool.Threads())}
	backend.programs = backend.newPrograms()
	return backend, nil
}

// Config describes the model.
func (c *CPU) Config() Config { return c.config }

// Shape is what sequences with an eviction policy are planned with. Reference math
// stores a key and a value of a KV head as two bf16 rows each.
func (c *CPU) Shape(policy string) cache.Shape {
	return cache.Shape{Layers: c.config.Layers, KVHeads: c.config.KVHeads, HeadDim: c.stored, Context: c.config.Context,
		Group: c.config.Group(), Parts: c.stored / c.config.HeadDim, Ranks: ranksOf(c.memory.source, policy)}
}

// WeightBytes is the memory of the packed weights.
func (c *CPU) WeightBytes() int64 { return c.weights.bytes() }

// Parameters is how many values the model has.
func (c *CPU) Parameters() int64 { return c.weights.parameters }

// Close gives nothing back that the garbage collector does not.
func (c *CPU) Close() {}

// NewSequence takes the Plan's memory.
func (c *CPU) NewSequence(p cache.Plan) (Sequence, error) {
	return cache.NewSequence(p, c.handlers(), &c.evictions)
}

// handlers are what a Sequence leaves to the backend.
func (c *CPU) handlers() cache.Handlers {
	return cache.Handlers{Absorb: c.collect, Turn: c.turn, Features: c.features, Each: c.pool.Run}
}

// Forward feeds every Work's tokens to its sequence: see decode.Backend. An error
// means that a Work was refused before anything was computed.
func (c *CPU) Forward(work []Work) ([]Result, error) {
	b, err := c.newBatch(work)
	if err != nil {
		return nil, err
	}
	c.Clock.Pass()
	c.embed(b)
	if b.abandon(); b.rows == 0 {
		return b.results, nil
	}
	if c.together(b) {
		c.layersTogether(b)
		b.advance()
		c.logits(b)
		return b.results, nil
	}
	for i := range c.weights.layers {
		if b.abandon(); b.rows == 0 {
			return b.results, nil
		}
		l := &c.weights.layers[i]
		c.norm(b, l.attentionNorm)
		c.qkv(b, l)
		for wave := range b.waves {
			c.store(b, i, wave)
			c.Clock.Mark(Cache)
			c.attend(b, i)
			c.observe(b, i)
			c.evict(b, i, wave)
			c.Clock.Mark(Cache)
		}
		c.project(b, l)
		c.norm(b, l.ffnNorm)
		c.feedForward(b, l)
	}
	b.advance()
	c.score(b)
	c.logits(b)
	return b.results, nil
}

// embed looks up every token and computes the rotation of its position.
func (c *CPU) embed(b *batch) {
	half := c.config.HeadDim / 2
	c.eachRow(b.rows, func(row int) {
		c.weights.embedding.Row(rowOf(c.x, row, c.config.Width), int(b.tokens[row]))
		rotation(rowOf(c.cos, row, half), rowOf(c.sin, row, half), c.frequencies, b.positions[row])
	})
	c.Clock.Mark(Rows)
}
