package cpu

import (
	"encoding/binary"
	"fmt"
	"math"

	"lessrag/lesskernels"
)

// Plain numbers as integers of 13 bits with a scale for each 128 columns: products
// by VPDPWSSD, two multiplications in a lane where float32 has one, of weights and
// activations that keep four digits. A block's sum of products stays below 2³¹.
const (
	wordBlock = 128
	wordPeak  = 4095
	wideWords = wordBlock/2 + 1 // of one row and block of activations
)

// PackWords repacks a matrix of any type so. Columns must be a whole number of
// blocks. Only AVX-512 has kernels for it.
func PackWords(t lesskernels.DType, data []byte, rows, cols int, isa ISA) (*Matrix, error) {
	if cols%wordBlock != 0 {
		return nil, fmt.Errorf("cpu: pack %v [%d, %d]: the columns must be a multiple of the block of %d", t, rows, cols, wordBlock)
	}
	return pack(t, words, data, rows, cols, isa)
}

// wordScale is the scale of a block and its inverse: NaN and 0 where a value is not
// finite, so that it shows, and zeros where all vanish.
func wordScale(x []float32) (scale, inverse float32) {
	peak := float32(0)
	for _, v := range x {
		a := float32(math.Abs(float64(v)))
		if peak == peak && !(a <= peak) { // the first NaN stays
			peak = a
		}
	}
	switch {
	case !(peak <= math.MaxFloat32):
		return float32(math.NaN()), 0
	case peak < 1e-30:
		return 0, 0
	}
	return peak * (1.0 / wordPeak), wordPeak / peak
}

// word is the code of a value.
func word(x, inverse float32) int16 {
	if inverse == 0 {
		return 0
	}
	return int16(math.RoundToEven(float64(x * inverse)))
}

// writeWords writes one row to lane r of a panel.
func writeWords(panel []byte, r int, x []float32) {
	for b := 0; b < len(x); b += wordBlock {
		block := panel[b/wordBlock*(words.codeBytes()+words.scaleBytes()):]
		scale, inverse := wordScale(x[b : b+wordBlock])
		for i, v := range x[b : b+wordBlock] {
			binary.LittleEndian.PutUint16(block[i/2*64+r*4+i%2*2:], uint16(word(v, inverse)))
		}
		binary.LittleEndian.PutUint32(block[words.codeBytes()+r*4:], math.Float32bits(scale))
	}
}

// wordOf reads column c of row r of a panel.
func wordOf(panel []byte, c, r int) float32 {
	block := panel[c/wordBlock*(words.codeBytes()+words.scaleBytes()):]
	i := c % wordBlock
	code := int16(binary.LittleEndian.Uint16(block[i/2*64+r*4+i%2*2:]))
	return math.Float32frombits(binary.LittleEndian.Uint32(block[words.codeBytes()+r*4:])) * float32(code)
}

// quantizeWide is the portable rounding of one token's row in a tile of rows.
func quantizeWide(dst []uint32, x []float32, rows int) {
	for b := 0; b < len(x); b += wordBlock {
		record := dst[b/wordBlock*rows*wideWords:][:wideWords]
		scale, inverse := wordScale(x[b : b+wordBlock])
		for i := 0; i < wordBlock; i += 2 {
			record[i/2] = uint32(uint16(word(x[b+i], inverse))) | uint32(uint16(word(x[b+i+1], inverse)))<<16
		}
		record[wordBlock/2] = math.Float32bits(scale)
	}
}

// mulWords is the portable product: y += d·(scale·Σ q·x) over the blocks.
func mulWords(dst []float32, stride int, x []uint32, n int, panel []byte, cols int) {
	for i := range n {
		clear(dst[i*stride:][:panelRows])
	}
	for b := range cols / wordBlock {
		records, block := x[b*n*wideWords:], panel[b*(words.codeBytes()+words.scaleBytes()):]
		for i := range n {
			record := records[i*wideWords:][:wideWords]
			scale := math.Float32frombits(record[wordBlock/2])
			for r := range panelRows {
				dot := int32(0)
				for g := range wordBlock / 2 {
					w, v := binary.LittleEndian.Uint32(block[g*64+r*4:]), record[g]
					dot += int32(int16(w))*int32(int16(v)) + int32(int16(w>>16))*int32(int16(v>>16))
				}
				d := math.Float32frombits(binary.LittleEndian.Uint32(block[words.codeBytes()+r*4:]))
				dst[i*stride+r] += d * (float32(dot) * scale)
			}
		}
	}
}
