package model

import (
	"fmt"
	"math"

	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// CUDA is the backend that computes on a card. It is the twin of CPU, stage by stage,
// for all caches; activations and keys and values are bf16, sums float32.
// One goroutine uses it at a time.
type CUDA struct {
	config      Config
	heads       cuda.Heads
	device      device.Device
	stream      device.Stream
	kernels     *cuda.Kernels
	limits      Limits
	weights     cudaWeights
	frequencies []float64         // [headDim/2]
	span        int               // slots that a split of attention takes
	source      *lesskernels.Maps // what UseMaps was given
	maps        cudaMaps
	caches      int64     // bytes that are left to sequences
	tables      upload    // of a batch
	late        upload    // of what is decided while a pass runs
	mostTables  int       // bytes of a batch's tables, about: those of further layers follow while the pass runs
	sums        []float32 // scratch: what was got of attention
	graphs      map[step]device.Graph
	cudaActivations

	failed     error // of the pass that runs, or before it
	generation int   // how often the device was opened anew
	gone       error // why the model is not on it; nil: it is
}

// attentionSplits is how many spans a full context is attended in. Where they end
// depends on the model alone, so a row's result does not depend on the batch.
const attentionSplits = 16

// mostParts is how many partial results of attention a row has at most: of those spans, its own block, spans of packed groups, and a state of moments.
const mostParts = attentionSplits + 2 + packedSplits

// NewCUDA puts the model of a GGUF file on a device, and makes sure that caches bytes are left there
// for sequences, and beside them what a prompt is staged in. The file may be closed afterwards; the device is closed with the
// backend, and when there is an error.
func NewCUDA(f *gguf.File, limits Limits, caches int64, d device.Device) (*CUDA, error) {
	c := &CUDA{device: d, limits: limits, caches: caches, mostTables: 8 << 20}
	err := c.describe(f)
	if err == nil {
		err = c.open(f)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// describe learns what does not change where the device is opened anew.
func (c *CUDA) describe(f *gguf.File) error {
	var err error
	if c.config, err = NewConfig(f); err != nil {
		return err
	}
	if err := c.limits.check(); err != nil {
		return err
	}
	c.frequencies = c.config.frequencies()
	c.heads = cuda.Heads{Heads: c.config.Heads, KVHeads: c.config.KVHeads, Dim: c.config.HeadDim}
	if err := c.heads.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	c.span = (c.config.Context/attentionSplits + 64) / 64 * 64
	return nil
}

// open puts the model on the device.
func (c *CUDA) open(f *gguf.File) error {
	packed, err := packCUDA(f, c.config)
	if err != nil {
		return err
	}
	info, err := c.device.Info()
	if err != nil {
		return err
	}
	scratch := c.plan(c.config, c.limits)
	beside, err := c.beside()
	if err != nil {
		return err
	}
	if need := packed.bytes() + scratch + beside.bytes(); need > info.Free {
		return fmt.Errorf("model: %d bytes are free on %s, and %d are needed: %d for weights, %d for a pass, %s",
			info.Free, info.Label(), need, packed.bytes(), scratch, beside)
	}
	if c.stream, err = c.device.NewStream(); err != nil {
		return err
	}
	if c.kernels, err = cuda.Load(c.device); err != nil {
		return err
	}
	if err := c.take(c.device); err != nil {
		return err
	}
	if err := c.weights.upload(packed, c.device, c.stream); err != nil {
		return err
	}
	return c.stream.Wait()
}

// Recover puts the model, and its feature maps, on the device again that was lost. The sequences that there are hold
// nothing any more, and are only to be freed.
func (c *CUDA) Recover(f *gguf.File) error {
	if err := c.device.Reopen(); err != nil {
		return fmt.Errorf("open the device anew: %w", err)
	}
	c.generation++
	c.weights, c.cudaActivations, c.maps, c.tables, c.late = cudaWeights{}, cudaActivations{}, cudaMaps{}, upload{}, upload{}
	c.stream, c.kernels, c.graphs, c.failed = nil, nil, nil, nil
	c.gone = fmt.Errorf("%w: the model is not on it", device.ErrLost)
	if err := c.open(f); err != nil {
		return err
	}
	if c.source != nil {
		if err := c.takeMaps(); err != nil {
			return err
		}
	}
	c.gone = nil
	return nil
}

// Config describes the model.
func (c *CUDA) Config() Config { return c.config }

// Shape is what sequences are planned with, whatever their policy.
func (c *CUDA) Shape(policy string) cache.Shape {
	return cache.Shape{Layers: c.config.Layers, KVHeads: c.config.KVHeads, HeadDim: c.config.HeadDim, Context: c.config.Context,
		Group: c.config.Group(), Ranks: ranksOf(c.source, policy)}
}

// Close gives the device back, with all that was taken of it but sequences.
func (c *CUDA) Close() {
	c.dropGraphs()
	c.weights.free(c.device)
	c.cudaActivations.free(c.device)
	c.maps.free(c.device)
	for _, u := range []*upload{&c.tables, &c.late} {
		if u.room > 0 {
			c.device.Free(u.memory)
		}
	}
	if c.kernels != nil {
		c.kernels.Close()
	}
	if c.stream != nil {
		c.stream.Close()
	}
	c.device.Close()
}

// Forward feeds every Work's tokens to its sequence: see decode.Backend. After an
// error of the device the sequences are unusable and must be freed.
func (c *CUDA) Forward(work []Work) ([]Result, error) {
	if c.gone != nil {
		return nil, c.gone
	}
	b, err := c.newBatch(work)
	if err != nil {
		return nil, err
	}
	if b.rows == 0 { // nobody wants any of it
		return b.results, nil
	}
	c.upload(b)
	if s, ok := c.repeats(b); ok {
		c.repeat(b, s)
	} else {
		c.compute(b)
		c.score(b)
		c.head(b)
	}
	b.advance()
	c.logits(b)
	if err := c.failure(); err != nil {
		return nil, err
	}
	return b.results, nil
}

// failure is the first error since it was last asked for.
func (c *CUDA) failure() error {
	err := c.failed
	if c.failed = nil; err != nil {
		return fmt.Errorf("model: %w", err)
	}
	return nil
}

// compute launches all that a pass does before the logits.
func (c *CUDA) compute(b *cudaBatch) {
	c.embed(b)
	for i := range c.weights.layers {
		l := &c.weights.layers[i]
		c.norm(b, l.attentionNorm)
		c.qkv(b, l)
		c.rope(b)
		c.phi(b, i)
		for wave := range b.waves {
			w := &b.waves[wave]
			c.store(b, i, w)
			c.ask(i, w)
			c.attend(b, i, w)
			c.attendPacked(b, i, w)
			c.observe(b, i, w)
			c.observePacked(b, i, w)
			c.merge(b, i, w)
			c.insert(b, i, w)
		}
		c.project(b, l)
		c.norm(b, l.ffnNorm)
		c.feedForward(b, l)
	}
	c.finish(b)
}

// check keeps the first error of a pass; what is launched after it makes no
// difference.
func (c *CUDA) check(err error) {
	if c.failed == nil {
		c.failed = err
	}
}

// embed looks up every token.
func (c *CUDA) embed(b *cudaBatch) {
	c.check(c.kernels.Embed(c.stream, c.weights.embedding, b.tokens.at, c.x, b.rows))
	b.pending = false
}

// norm adds what the last stage left to the residual stream, and normalises it.
func (c *CUDA) norm(b *cudaBatch, weight device.Pointer) {
	if b.pending {
		c.check(c.kernels.AddNorm(c.stream, c.x, c.delta, weight, c.normed, b.rows, c.config.Width, c.config.Epsilon))
	} else {
		c.check(c.kernels.Norm(c.stream, c.x, weight, c.normed, b.rows, c.config.Width, c.config.Epsilon))
	}
	b.pending = false
}

func (c *CUDA) qkv(b *cudaBatch, l *cudaLayer) {
	h := c.heads
	stride := (h.Heads + 2*h.KVHeads) * h.Dim
	at := c.qkvOut
	for _, m := range []*cuda.Matrix{l.q, l.k, l.v} {
		c.check(c.kernels.Multiply(c.stream, m, c.normed, at, b.rows, stride))
		at += device.Pointer(4 * m.Outs)
	}
}

// rope turns queries and keys by their positions, and rounds keys and values of the
// batch's own tokens to blockK and blockV.
func (c *CUDA) rope(b *cudaBatch) {
	c.check(c.kernels.Rope(c.stream, c.heads, c.qkvOut, b.cos.at, b.sin.at, c.q,
		rowAligned(c.blockK, c.heads.Dim), rowAligned(c.blockV, c.heads.Dim), b.rows))
}

// store makes room where a sequence is full, and puts the blocks that fit where
// attention will find them.
func (c *CUDA) store(b *cudaBatch, layer int, w *wave) {
	c.cut(layer, &w.evictions)
	if w.layers != nil {
		c.cutIn(layer, w, &w.layers[layer].evictions)
	}
	c.decide(b, layer, w)
	if n := len(w.stores.values); n > 0 {
		a := c.attention(b)
		a.Layer, a.Live = layer, c.liveAt(b, layer)
		c.check(c.kernels.Store(c.stream, &a, rowAligned(c.blockK, c.heads.Dim), rowAligned(c.blockV, c.heads.Dim), w.stores.at, n))
	}
}

// insert puts away what stays of blocks that did not fit, after they were attended.
func (c *CUDA) insert(b *cudaBatch, layer int, w *wave) {
	c.cut(layer, &w.inserts)
	if w.layers != nil {
		c.cutIn(layer, w, &w.layers[layer].inserts)
	}
	c.decideInserts(b, layer, w)
}

// attend computes attention over what sequences hold and, where there are any, over
// blocks that they do not: each split of slots apart.
func (c *CUDA) attend(b *cudaBatch, layer int, w *wave) {
	a := c.attention(b)
	a.Layer = layer
	for _, kind := range []struct {
		*tiles
		block bool
	}{{&w.steps, false}, {&w.blocks, true}} {
		n := len(kind.rows.values)
		if n == 0 {
			continue
		}
		a.Tiles, a.Places, a.Live = kind.rows.at, kind.held.at, c.liveAt(b, layer)
		a.Parts, a.LSE = c.parts, c.lse
		c.check(c.kernels.Attend(c.stream, &a, n, kind.block, b.splits, c.span))
		if b.own {
			a.Places, a.Live = kind.own.at, b.ownLive.at
			a.Parts, a.LSE = c.part(b, b.splits)
			c.check(c.kernels.Attend(c.stream, &a, n, kind.block, 1, (c.limits.Tokens+63)/64*64))
		}
	}
}

// part is where one of the partial results of attention is, and its log-sum-exps.
func (c *CUDA) part(b *cudaBatch, n int) (parts, lse device.Pointer) {
	rows := device.Pointer(4 * n * b.rows * c.heads.Heads)
	return c.parts + rows*device.Pointer(c.heads.Dim), c.lse + rows
}

func (c *CUDA) attention(b *cudaBatch) cuda.Attention {
	return cuda.Attention{Heads: c.heads, Scale: float32(1 / math.Sqrt(float64(c.heads.Dim))), Rows: b.rows, Q: c.q, Parts: c.parts, LSE: c.lse}
}

// merge joins the splits of attention, and what states have absorbed.
func (c *CUDA) merge(b *cudaBatch, layer int, w *wave) {
	a := c.attention(b)
	a.Layer = layer
	parts := b.parts()
	if b.recalls {
		recall := a
		recall.Parts, recall.LSE = c.part(b, parts)
		c.check(c.kernels.RecallMoments(c.stream, &recall, w.rows.at, len(w.rows.values), 0, b.recalled.at))
		parts++
	}
	c.check(c.kernels.Merge(c.stream, &a, w.rows.at, len(w.rows.values), parts, c.states(b, layer), c.attended))
}

func (c *CUDA) project(b *cudaBatch, l *cudaLayer) {
	c.check(c.kernels.Multiply(c.stream, l.o, c.attended, c.delta, b.rows, c.config.Width))
	b.pending = true
}

func (c *CUDA) feedForward(b *cudaBatch, l *cudaLayer) {
	hidden := c.config.Hidden
	c.check(c.kernels.Multiply(c.stream, l.gate, c.normed, c.gate, b.rows, hidden))
	c.check(c.kernels.Multiply(c.stream, l.up, c.normed, c.up, b.rows, hidden))
	c.check(c.kernels.SwiGLU(c.stream, c.gate, c.up, c.hidden, b.rows*hidden))
	c.check(c.kernels.Multiply(c.stream, l.down, c.hidden, c.delta, b.rows, c.config.Width))
	b.pending = true
}

// finish adds what the last layer left to the residual stream.
func (c *CUDA) finish(b *cudaBatch) {
	c.check(c.kernels.Add(c.stream, c.x, c.delta, b.rows*c.config.Width))
}
