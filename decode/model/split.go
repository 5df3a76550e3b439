package model

import (
	"math"

	"lessrag/lesskernels/cpu"
)

// A number as the sum of two that are stored more coarsely: the second holds what
// rounding the first left over. Reference math keeps keys and values so, as two
// bf16 each. Int8 math multiplies the matrix of logits with inputs in two rows of
// codes, since the last rounding before a token is chosen changes the choice most:
// on the default reader 2.4% of the most likely tokens differ from those of float32
// instead of 3.2%.

// splitBF16 writes x [n] to dst as [n] rounded values and [n] remainders.
// remainder is scratch of n values.
func splitBF16(dst []uint16, x, remainder []float32) {
	cpu.BF16(dst[:len(x)], x)
	for i, v := range x {
		remainder[i] = v - math.Float32frombits(uint32(dst[i])<<16)
	}
	cpu.BF16(dst[len(x):], remainder[:len(x)])
}

// codeBlock is how many activations share a scale when they become int8.
const codeBlock = 32

// splitCodes writes x to coarse, as values that 8 bits with a scale for each block
// hold exactly, and what they leave over to rest.
func splitCodes(coarse, rest, x []float32) {
	for from := 0; from < len(x); from += codeBlock {
		block := x[from:min(len(x), from+codeBlock)]
		peak := float32(0)
		for _, v := range block {
			peak = max(peak, float32(math.Abs(float64(v))))
		}
		scale := peak / 127
		for i, v := range block {
			code := float32(0)
			if scale > 0 {
				code = float32(math.RoundToEven(float64(v / scale)))
			}
			coarse[from+i] = scale * code
			rest[from+i] = v - coarse[from+i]
		}
	}
}

// mulSplit is dst [rows, outputs] = x [rows, width] · mᵀ with x in two parts.
func (c *CPU) mulSplit(m *cpu.Matrix, dst, x []float32, rows int) {
	width, outputs := c.config.Width, m.Rows()
	c.eachRow(rows, func(row int) {
		splitCodes(rowOf(c.halves, 2*row, width), rowOf(c.halves, 2*row+1, width), rowOf(x, row, width))
	})
	c.input.Set(c.halves, 2*rows, width)
	m.Mul(c.pool, c.product, &c.input)
	c.eachRow(rows, func(row int) {
		sum := rowOf(dst, row, outputs)
		copy(sum, rowOf(c.product, 2*row, outputs))
		add(sum, rowOf(c.product, 2*row+1, outputs))
	})
}
