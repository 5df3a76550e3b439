package model

import (
	"fmt"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda"
	"lessrag/lesskernels/cuda/device"
)

// cudaActivations are the scratch of a forward pass on a device, taken once for the
// largest batch.
type cudaActivations struct {
	x          device.Pointer // [tokens, width] f32, residual stream
	normed     device.Pointer // [tokens, width] bf16
	delta      device.Pointer // [tokens, width] f32, what a stage adds to x
	qkvOut     device.Pointer // [tokens, heads + 2·kvHeads, headDim] f32
	q          device.Pointer // [tokens, heads, headDim] bf16
	blockK     device.Pointer // [kvHeads, tokens, headDim] bf16, post-RoPE
	blockV     device.Pointer
	parts      device.Pointer // [mostParts, tokens, heads, headDim] f32
	lse        device.Pointer // [mostParts, tokens, heads] f32
	attended   device.Pointer // [tokens, heads, headDim] bf16
	gate, up   device.Pointer // [tokens, hidden] f32
	hidden     device.Pointer // [tokens, hidden] bf16
	out        device.Pointer // [logit rows, vocab] f32
	search     device.Pointer // scratch of the search for the likeliest tokens
	likely     device.Pointer // [sequences, likelyRow] i64, what it finds
	unpacked   device.Pointer // [unpackedGroups, 2, 32, headDim] bf16: packed keys and values that states absorb
	keySquares device.Pointer // [kvHeads·sequences, headDim] f64: what keys add to channels that are chosen
	blockSums  device.Pointer // [kvHeads, tokens] f32: what rows of blocks that do not fit get of attention

	residual   device.Pointer // [tokens of a Blend, width] f32: x of all of them
	queries    device.Pointer // [tokens of a Blend, heads, headDim] bf16
	deviations device.Pointer // [tokens] cuda.Deviation

	logitRows int
	buffers   []cudaBuffer
	scratch   int64
	host      []float32 // [logit rows, vocab] of Targets
	results   []float32 // [sequences, vocab]
	found     []int64   // [sequences, likelyRow]
}

// cudaBuffer is memory that take takes.
type cudaBuffer struct {
	to    *device.Pointer
	bytes int64
}

// plan tells how many bytes a pass takes, and what for.
func (a *cudaActivations) plan(c Config, limits Limits) int64 {
	tokens := int64(limits.Tokens)
	a.logitRows = max(limits.Sequences, min(scoreRows, limits.Tokens))
	heads := int64(c.Heads * c.HeadDim)
	kvHeads := int64(c.KVHeads * c.HeadDim)
	width, hidden := int64(c.Width), int64(c.Hidden)
	a.buffers = []cudaBuffer{
		{&a.x, 4 * tokens * width}, {&a.normed, 2 * tokens * width}, {&a.delta, 4 * tokens * width},
		{&a.qkvOut, 4 * tokens * (heads + 2*kvHeads)}, {&a.q, 2 * tokens * heads}, {&a.blockK, 2*tokens*kvHeads + rowSlack(c.HeadDim)}, {&a.blockV, 2*tokens*kvHeads + rowSlack(c.HeadDim)},
		{&a.parts, 4 * mostParts * tokens * heads}, {&a.lse, 4 * mostParts * tokens * int64(c.Heads)},
		{&a.attended, 2 * tokens * heads}, {&a.gate, 4 * tokens * hidden}, {&a.up, 4 * tokens * hidden}, {&a.hidden, 2 * tokens * hidden},
		{&a.unpacked, int64(unpackedGroups(c.KVHeads, limits)*4*cache.GroupTokens*c.HeadDim) + rowSlack(c.HeadDim)}, {&a.blockSums, 4 * tokens * int64(c.KVHeads)}, {&a.keySquares, 8 * int64(limits.Sequences) * kvHeads}, {&a.out, 4 * int64(a.logitRows) * int64(c.Vocab)},
		{&a.search, cuda.LikelyScratch(limits.Sequences, c.Vocab)}, {&a.likely, 8 * int64(limits.Sequences) * likelyRow},
	}
	if blend := int64(limits.Blend); blend > 0 {
		a.buffers = append(a.buffers, cudaBuffer{&a.residual, 4 * blend * width}, cudaBuffer{&a.queries, 2 * blend * heads}, cudaBuffer{&a.deviations, 16 * tokens})
	}
	a.scratch = 0
	for _, b := range a.buffers {
		a.scratch += b.bytes
	}
	a.host = make([]float32, min(scoreRows, limits.Tokens)*c.Vocab)
	a.results = make([]float32, limits.Sequences*c.Vocab)
	a.found = make([]int64, limits.Sequences*likelyRow)
	return a.scratch
}

func (a *cudaActivations) take(d device.Device) error {
	for _, b := range a.buffers {
		var err error
		if *b.to, err = d.Alloc(b.bytes); err != nil {
			return fmt.Errorf("model: memory for a pass: %w", err)
		}
	}
	return nil
}

func (a *cudaActivations) free(d device.Device) {
	for _, b := range a.buffers {
		if *b.to != 0 {
			d.Free(*b.to)
			*b.to = 0
		}
	}
}

// ScratchBytes is the device's memory of a forward pass beside weights and caches,
// taken once for the largest batch.
func (c *CUDA) ScratchBytes() int64 { return c.scratch }
