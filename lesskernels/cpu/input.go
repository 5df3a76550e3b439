package cpu

import (
	"fmt"
	"math"
)

// Input holds activations [n, cols] for one or several products. Each form
// that a kernel reads is made once, when the first product asks for it.
// An Input belongs to one goroutine at a time.
type Input struct {
	x       []float32 // [n, cols], the caller's
	n, cols int
	ints    tiles
	floats  tiles
}

// tiles are activations in the order in which kernels read them: token by
// token within a tile, tile after tile. With T tokens in a tile,
//
//	floats  [cols][T] float32
//	ints    [cols/32]{codes [8][T][4] int8, scale [T] f32, bias [T] i32, sum [T] f32, first [T] i32}
//
// x = scale·code, bias = −8·Σcode and sum = scale·Σcode over the block, first
// is the bias of its first half.
type tiles struct {
	ready bool
	width int      // the most tokens in a tile
	words []uint32 // [n·cols] or [n·cols/32·12]
}

// intWords is the words of one token and block in the integer form.
const intWords = 12

// Set makes x [n, cols] the activations. x stays the caller's and must not
// change until the last product with it.
func (in *Input) Set(x []float32, n, cols int) {
	if n < 0 || cols <= 0 || len(x) < n*cols {
		panic(fmt.Sprintf("cpu: input [%d, %d] of %d values", n, cols, len(x)))
	}
	in.x, in.n, in.cols = x, n, cols
	in.ints.ready, in.floats.ready = false, false
}

// tileCount is how many tiles of at most width tokens n tokens make.
func tileCount(n, width int) int { return (n + width - 1) / width }

// tileSpan is the tokens [from, to) of tile i: sizes differ by one at most.
func tileSpan(n, width, i int) (from, to int) {
	count := tileCount(n, width)
	small, more := n/count, n%count
	from = i*small + min(i, more)
	to = from + small
	if i < more {
		to++
	}
	return from, to
}

// tokenWords is the words that one token takes in a form.
func (in *Input) tokenWords(integer bool) int {
	if integer {
		return in.cols / blockLen * intWords
	}
	return in.cols
}

// form returns the tiles of a form, made by p's threads if they are not there.
func (in *Input) form(p *Pool, integer bool, isa ISA) *tiles {
	t := &in.floats
	if integer {
		t = &in.ints
	}
	width := isa.width(integer)
	if t.ready && t.width == width {
		return t
	}
	size := in.tokenWords(integer)
	if cap(t.words) < in.n*size {
		t.words = make([]uint32, in.n*size)
	}
	t.words, t.width, t.ready = t.words[:in.n*size], width, true
	one := func(i int) {
		from, to := tileSpan(in.n, width, i)
		words := t.words[from*size : to*size]
		if integer {
			for token := from; token < to; token++ {
				rowsFor(isa).quantize(words[token-from:], in.x[token*in.cols:][:in.cols], to-from)
			}
		} else {
			interleaveTile(words, in.x[from*in.cols:to*in.cols], to-from, in.cols)
		}
	}
	if count := tileCount(in.n, width); in.n*in.cols < 1<<15 {
		for i := range count {
			one(i)
		}
	} else {
		p.Run(count, one)
	}
	return t
}

// interleaveTile writes x [n, cols] as [cols][n].
func interleaveTile(dst []uint32, x []float32, n, cols int) {
	for i := range n {
		at := i
		for _, v := range x[i*cols : (i+1)*cols] {
			dst[at] = math.Float32bits(v)
			at += n
		}
	}
}

// quantize is the portable quantisation of one token's row.
func quantize(dst []uint32, x []float32, tokens int) {
	for b := range len(x) / blockLen {
		quantizeBlock(dst[b*tokens*intWords:], x[b*blockLen:][:blockLen], tokens)
	}
}

// quantizeBlock writes 32 values to a token's place in a record of n tokens.
// A block with a value that is not finite gets the scale NaN, so that it
// shows; one of vanishing values becomes zero.
func quantizeBlock(record []uint32, x []float32, n int) {
	peak := float32(0)
	for _, v := range x {
		a := math.Float32frombits(math.Float32bits(v) &^ (1 << 31))
		if peak == peak && !(a <= peak) { // the first NaN stays
			peak = a
		}
	}
	scale, inverse := peak*(1.0/127), 127/peak
	switch {
	case !(peak <= math.MaxFloat32):
		scale, inverse = float32(math.NaN()), 0
	case peak < 1e-30:
		scale, inverse = 0, 0
	}
	sum, first := int32(0), int32(0)
	for g := range blockLen / 4 {
		word := uint32(0)
		for j := range 4 {
			q := int32(0)
			if inverse != 0 {
				q = int32(math.RoundToEven(float64(x[g*4+j] * inverse)))
			}
			sum += q
			word |= uint32(uint8(q)) << (8 * j)
		}
		record[g*n] = word
		if g == 3 {
			first = sum
		}
	}
	record[8*n] = math.Float32bits(scale)
	record[9*n] = uint32(-8 * sum)
	record[10*n] = math.Float32bits(scale * float32(sum))
	record[11*n] = uint32(-8 * first)
}
