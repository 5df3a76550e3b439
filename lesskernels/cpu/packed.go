package cpu

import (
	"fmt"
	"math"
	"math/bits"
)

// PackTokens is how many consecutive tokens are packed together: a group's keys
// share a scale and a minimum for each channel.
const PackTokens = 32

// packLanes is how many codes a row has: the tokens of a group for a row of keys, which is
// one channel, and some channels for a row of values, which is one token.
const packLanes = 32

// Packing is how the keys and values of a KV head are stored when they have left
// its 16-bit part. With 2 or 4 bits it is KIVI's (arXiv 2402.02750): keys per
// channel over 32 tokens, values per token over 32 channels, x ≈ code·scale + minimum with
// scale and minimum in binary16. The channels are those of a rotated basis: see mix. With
// 16 bits it is bf16, and nothing is rotated. A group of 32 tokens is one
// piece of memory, in 16-bit words:
//
//	key codes    [Keys, padded][32 tokens]
//	key scales   [Keys, padded] binary16, then minima; neither with 16 bits
//	value codes  [blocks of 32 channels][32 tokens][32 channels]
//	value scales [blocks][32 tokens] binary16, then minima
//
// Rows of codes are stored line by line: 64 bytes hold as many rows as fit, and word l of 16,
// of 32 bits, holds those of lanes l and l+16 of every row, in turn, from the lowest bits on.
type Packing struct {
	Bits   int // of a code: 2, 4 or 16
	Keys   int // channels that a key keeps
	Values int // channels of a value
}

// rowsPerLine is how many rows share a line of 64 bytes.
func (p Packing) rowsPerLine() int { return 16 / p.Bits }

// keyRows is Keys in whole lines.
func (p Packing) keyRows() int {
	n := p.rowsPerLine()
	return (p.Keys + n - 1) / n * n
}

// blocks is how many blocks of channels a value has; the last may be partly empty.
func (p Packing) blocks() int { return (p.Values + packLanes - 1) / packLanes }

// rowWords is one row of codes.
func (p Packing) rowWords() int { return packLanes * p.Bits / 16 }

// scaleWords is the scales and minima of n rows.
func (p Packing) scaleWords(n int) int {
	if p.Bits == 16 {
		return 0
	}
	return 2 * n
}

// keyWords is the part of a group that holds keys.
func (p Packing) keyWords() int { return p.keyRows()*p.rowWords() + p.scaleWords(p.keyRows()) }

// Words is the size of a group in 16-bit words; of the zero Packing, which stores
// nothing, 0.
func (p Packing) Words() int {
	if p.Bits == 0 {
		return 0
	}
	rows := p.blocks() * PackTokens
	return p.keyWords() + rows*p.rowWords() + p.scaleWords(rows)
}

// levels is the highest code.
func (p Packing) levels() float32 { return float32(uint32(1)<<p.Bits - 1) }

// place is where the code of a row and lane stands among the words of codes, and how
// far it is shifted.
func (p Packing) place(row, lane int) (word, shift int) {
	n := p.rowsPerLine()
	offset := p.Bits * (row%n*2 + lane/16)
	return row/n*packLanes + lane%16*2 + offset/16, offset % 16
}

// mix rotates a vector by the Walsh–Hadamard transform, in blocks of powers of two, the
// largest first; twice is as it was. Queries and keys that are rotated alike have the
// same products, and attention over rotated values is its rotated output. A few channels
// in which both queries and keys are large lose most by rounding: rotated, what they lose is
// shared by all (QuaRot, arXiv 2404.00456). Numbers of 16 bits stay as they are.
func (p Packing) mix(x []float32) {
	if p.Bits == 16 {
		return
	}
	for len(x) > 1 {
		n := 1 << (bits.Len(uint(len(x))) - 1)
		hadamard(x[:n])
		x = x[n:]
	}
}

// hadamard is the orthonormal Walsh–Hadamard transform of a power of two of numbers.
func hadamard(x []float32) {
	for half := 1; half < len(x); half *= 2 {
		for at := 0; at < len(x); at += 2 * half {
			low, high := x[at:at+half], x[at+half:at+2*half]
			for i, a := range low {
				b := high[i]
				low[i], high[i] = a+b, a-b
			}
		}
	}
	share := float32(1 / math.Sqrt(float64(len(x))))
	for i := range x {
		x[i] *= share
	}
}

// Pack writes a group: keys [32, Keys] and values [32, Values], which it uses up.
func (p Packing) Pack(group []uint16, keys, values []float32) {
	if len(group) != p.Words() || len(keys) != PackTokens*p.Keys || len(values) != PackTokens*p.Values {
		panic(fmt.Sprintf("cpu: pack %d key and %d value numbers of %+v into %d words", len(keys), len(values), p, len(group)))
	}
	clear(group)
	for t := range PackTokens {
		p.mix(keys[t*p.Keys : (t+1)*p.Keys])
		p.mix(values[t*p.Values : (t+1)*p.Values])
	}
	var row [packLanes]float32
	at, rows := group[:p.keyWords()], p.keyRows()
	for c := range p.Keys {
		for t := range row {
			row[t] = keys[t*p.Keys+c]
		}
		p.packRow(at, rows, c, row[:])
	}
	at, rows = group[p.keyWords():], p.blocks()*PackTokens
	for b := range p.blocks() {
		for t := range PackTokens {
			p.packRow(at, rows, b*PackTokens+t, values[t*p.Values+b*packLanes:t*p.Values+min(p.Values, (b+1)*packLanes)])
		}
	}
}

// packRow writes one of so many rows, its codes, scale and minimum.
func (p Packing) packRow(at []uint16, rows, row int, x []float32) {
	if p.Bits == 16 {
		for lane, value := range x {
			word, _ := p.place(row, lane)
			at[word] = toBF16(value)
		}
		return
	}
	scale, least := p.fit(x)
	scales := at[rows*p.rowWords():]
	scales[row], scales[rows+row] = scale, least
	step, from := fromF16(scale), fromF16(least)
	for lane, value := range x {
		word, shift := p.place(row, lane)
		at[word] |= quantise(value, step, from, p.levels()) << shift
	}
}

// fit is the scale and the minimum of a row in binary16. Both are rounded outwards, so
// that the steps between minimum and minimum + levels·scale cover all numbers, and none is
// further than half a step from the nearest.
func (p Packing) fit(x []float32) (scale, least uint16) {
	low, high := x[0], x[0]
	for _, value := range x {
		low, high = min(low, value), max(high, value)
	}
	least = toF16(low)
	for fromF16(least) > low {
		least = below(least)
	}
	width := high - fromF16(least)
	scale = toF16(width / p.levels())
	for fromF16(scale)*p.levels() < width {
		scale++ // positive: the next larger number
	}
	return scale, least
}

// below is the next smaller binary16.
func below(h uint16) uint16 {
	switch {
	case h == 0 || h == 0x8000:
		return 0x8001
	case h < 0x8000:
		return h - 1
	}
	return h + 1
}

// quantise is the code of the step that is nearest to x.
func quantise(x, step, from, levels float32) uint16 {
	if step == 0 {
		return 0
	}
	code := math.RoundToEven(float64((x - from) / step))
	if !(code > 0) { // a NaN has a NaN for scale or minimum
		return 0
	}
	return uint16(min(code, float64(levels)))
}

// unpackRow reads one of so many rows, 32 numbers.
func (p Packing) unpackRow(dst []float32, at []uint16, rows, row int) {
	word, shift := p.place(row, 0)
	if p.Bits == 16 {
		for lane := range 16 {
			dst[lane], dst[16+lane] = fromBF16(at[word+2*lane]), fromBF16(at[word+2*lane+1])
		}
		return
	}
	scales := at[rows*p.rowWords():]
	step, from := fromF16(scales[row]), fromF16(scales[rows+row])
	mask := uint16(1)<<p.Bits - 1
	for lane := range 16 {
		codes := at[word+2*lane] >> shift
		dst[lane] = float32(codes&mask)*step + from
		dst[16+lane] = float32(codes>>p.Bits&mask)*step + from
	}
}
