package model

import (
	"math"

	"lessrag/lesskernels/cpu"
)

// A number as the sum of two that are stored more coarsely: the second holds what
// rounding the first left over. Reference math keeps keys and values so, as two
// bf16 each; int8 math the input of the output matrix, as two rows of codes, since
// the last rounding before a token is chosen is the one that changes the choice.

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
