package model

import "lessrag/lesskernels/cpu"

// turns are rotations back from positions, kept in runs: every KV head evicts
// tokens of its own, and the sine of an angle costs more than the rotation. A
// model's context of runs is kept; a position beyond takes the place of another.
type turns struct {
	frequencies []float64
	runs        []turnRun
}

// turnRun is cos and sin, each [turnTokens, headDim/2], of consecutive positions.
type turnRun struct {
	number   int // the run's first position / turnTokens
	cos, sin []float32
}

const turnTokens = 64

func newTurns(frequencies []float64, context int) turns {
	return turns{frequencies: frequencies, runs: make([]turnRun, (context+turnTokens-1)/turnTokens)}
}

// prepare computes what back will need for the positions.
func (t *turns) prepare(positions []int32) {
	half := len(t.frequencies)
	for _, position := range positions {
		number := int(position) / turnTokens
		run := &t.runs[number%len(t.runs)]
		if run.cos == nil {
			run.cos, run.sin = make([]float32, turnTokens*half), make([]float32, turnTokens*half)
		} else if run.number == number {
			continue
		}
		run.number = number
		for i := range turnTokens {
			rotation(rowOf(run.cos, i, half), rowOf(run.sin, i, half), t.frequencies, -(number*turnTokens + i))
		}
	}
}

// back turns the key x [headDim] of a position to what it was before rotation.
// scratch has headDim values.
func (t *turns) back(x, scratch []float32, position int) {
	half := len(t.frequencies)
	cos, sin := scratch[:half], scratch[half:2*half]
	run, i := t.runs[position/turnTokens%len(t.runs)], position%turnTokens
	if run.cos != nil && run.number == position/turnTokens {
		cos, sin = rowOf(run.cos, i, half), rowOf(run.sin, i, half)
	} else {
		rotation(cos, sin, t.frequencies, -position)
	}
	cpu.RopeInterleaved(x, 1, len(x), cos, sin)
}

// steps are rotations by small numbers of positions, as policies turn what they
// number anew: [2, headDim/2] cos and sin, nil until they are needed.
type steps [256][]float32

// turn writes to dst the keys k [n, stored] as if they stood by positions later. dst
// may be k.
func (c *CPU) turn(dst, k []uint16, by int) {
	c.turning = resize(c.turning, 2*c.config.HeadDim)
	c.rotate(dst, k, c.rotationBy(by), c.turning[:c.config.HeadDim])
}

// rotationBy is the rotation by a number of positions, [2, headDim/2] cos and sin, until
// the next one is asked for.
func (c *CPU) rotationBy(by int) []float32 {
	dim, half := c.config.HeadDim, c.config.HeadDim/2
	if by < 0 || by >= len(c.steps) {
		c.turning = resize(c.turning, 2*dim)
		turn := c.turning[dim:]
		rotation(turn[:half], turn[half:], c.frequencies, by)
		return turn
	}
	if c.steps[by] == nil {
		c.steps[by] = make([]float32, dim)
		rotation(c.steps[by][:half], c.steps[by][half:], c.frequencies, by)
	}
	return c.steps[by]
}

// rotate writes to dst the keys k [n, stored] after a rotation. key is scratch of
// headDim values.
func (c *CPU) rotate(dst, k []uint16, turn, key []float32) {
	half := c.config.HeadDim / 2
	for i := range len(k) / c.stored {
		c.widen(key, rowOf(k, i, c.stored))
		cpu.RopeInterleaved(key, 1, c.config.HeadDim, turn[:half], turn[half:])
		c.round(rowOf(dst, i, c.stored), key)
	}
}
