package cpu

import (
	"fmt"
	"math"
	"slices"
)

// Input holds activations [n, cols] for one or several products. Each form
// that a kernel reads is made once, when the first product asks for it.
// An Input belongs to one goroutine at a time.
type Input struct {
	x       []float32 // [n, cols], the caller's
	n, cols int
	each    func(row, from, to int) // computes what columns [from, to) of a row still lack; nil once all have it
	whole   bool                    // of whole rows alone
	forms   [5]tiles

	private bool                     // every thread has an Input of its own
	make    func(dst, src []float32) // see SetMade
	src     []float32                // what it makes rows of
	sets    int                      // how often it was set
	own     []*Input                 // of each thread
	room    []float32                // of an own one, for the rows that are made
}

// form is how kernels read activations.
type form uint8

const (
	plain  form = iota // float32
	codes              // rounded to int8: a row for each token
	pairs              // two rows: codes, and the codes of what they leave over
	wide               // rounded to 13 bits: see PackWords
	single             // pairs in tiles of one token
)

// rows is how many rows of a tile a token takes.
func (f form) rows() int { return [...]int{plain: 1, codes: 1, pairs: 2, wide: 1, single: 2}[f] }

// tiles are activations in the order in which kernels read them: row by row
// within a tile, tile after tile. With T rows in a tile,
//
//	plain         [cols][T] float32
//	codes, pairs  [cols/32]{codes [8][T][4] int8, scale [T] f32, bias [T] i32, sum [T] f32, first [T] i32}
//	wide          [cols/128][T]{codes [64][2] int16, scale f32}
//
// x = scale·code, bias = −8·Σcode and sum = scale·Σcode over the block, first
// is the bias of its first half.
type tiles struct {
	ready bool
	width int      // the most tokens in a tile
	size  int      // words of a token
	words []uint32 // [n·size]
	lined bool     // the order is that of lines, of whole tiles
}

// intWords is the words of one row and block in the integer forms.
const intWords = 12

// Set makes x [n, cols] the activations. x stays the caller's and must not
// change until the last product with it.
func (in *Input) Set(x []float32, n, cols int) { in.SetColumns(x, n, cols, nil) }

// SetEach is Set for activations that are not finished: the first product calls each
// once for every row, in any order and from several threads, right before it reads
// the row, which then lies in the nearest cache.
func (in *Input) SetEach(x []float32, n, cols int, each func(row int)) {
	in.SetColumns(x, n, cols, func(row, _, _ int) { each(row) })
	in.whole = true
}

// SetColumns is SetEach where numbers do not depend on their neighbours: each finishes
// columns [from, to) of a row, so that threads share out a few rows too.
func (in *Input) SetColumns(x []float32, n, cols int, each func(row, from, to int)) {
	if n < 0 || cols <= 0 || len(x) < n*cols {
		panic(fmt.Sprintf("cpu: input [%d, %d] of %d values", n, cols, len(x)))
	}
	in.x, in.n, in.cols, in.each, in.whole, in.make = x, n, cols, each, false, nil
	in.private = each == nil && n <= fewOwn
	in.sets++
	for f := range in.forms {
		in.forms[f].ready = false
	}
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

// tile is the words of tile i, which holds the tokens [from, to).
func (in *Input) tile(t *tiles, i int) (words []uint32, from, to int) {
	from, to = tileSpan(in.n, t.width, i)
	if t.lined {
		from = i * t.width
		return t.words[from*t.size:][:t.width*t.size], from, min(from+t.width, in.n)
	}
	return t.words[from*t.size : to*t.size], from, to
}

// runs is how many runs of tiles a kernel multiplies: single ones or, of lines, those that
// are full together, and the other.
func (in *Input) runs(t *tiles) int {
	if t.lined {
		return 1 + min(1, in.n%t.width)
	}
	return tileCount(in.n, t.width)
}

// run is the words of run i, which holds the tokens [from, to).
func (in *Input) run(t *tiles, i int) (words []uint32, from, to int) {
	if !t.lined {
		return in.tile(t, i)
	}
	full := in.n / t.width * t.width
	if i == 0 {
		return t.words[:full*t.size], 0, full
	}
	return t.words[full*t.size:], full, in.n
}

// form returns the tiles of a form, made by p's threads if they are not there.
func (in *Input) form(p *Pool, f form, isa ISA) *tiles {
	t, ready := in.begin(f, isa)
	if ready {
		return t
	}
	unit, parts := max(1, f.block()), 1
	units, count := in.cols/unit, tileCount(in.n, t.width)
	fill := func(i, part int) { in.fill(t, f, isa, i, part*units/parts*unit, (part+1)*units/parts*unit) }
	if in.n*in.cols < fewValues {
		for i := range count {
			fill(i, 0)
		}
	} else {
		if f.block() > 0 && count < p.threads && !in.whole {
			parts = min(2*p.threads, max(1, units))
		}
		p.Run(count*parts, func(i int) { fill(i/parts, i%parts) })
	}
	in.each, in.whole = nil, false
	return t
}

// begin returns the tiles of a form, and whether they are there already. If not, the
// caller fills them.
func (in *Input) begin(f form, isa ISA) (t *tiles, ready bool) {
	t = &in.forms[f]
	width := isa.width(f, in.n)
	if t.ready && t.width == width {
		return t, true
	}
	t.width, t.size, t.ready, t.lined = width, in.cols, true, isa.lined(f, in.n)
	switch f {
	case codes, pairs, single:
		t.size = f.rows() * in.cols / blockLen * intWords
	case wide:
		t.size = in.cols / wordBlock * wideWords
	}
	all := in.n * t.size
	if t.lined {
		t.size = t.size / intWords * lineWords
		all = tileCount(in.n, width) * width * t.size
	}
	t.words = slices.Grow(t.words[:0], all)[:all]
	return t, false
}

// fewValues are rounded by one thread sooner than by several.
const fewValues = 2048

// block is the columns that share a scale, 0 where there is none.
func (f form) block() int {
	return [...]int{plain: 0, codes: blockLen, pairs: blockLen, wide: wordBlock, single: blockLen}[f]
}

// fill makes columns [first, end), whole blocks, of tile i of a form; all of them where
// the form has no blocks.
func (in *Input) fill(t *tiles, f form, isa ISA, i, first, end int) {
	words, from, to := in.tile(t, i)
	finish := in.each
	if finish == nil {
		finish = func(int, int, int) {}
	}
	if f == plain {
		for token := from; token < to; token++ {
			finish(token, 0, in.cols)
		}
		interleaveTile(words, in.x[from*in.cols:to*in.cols], to-from, in.cols)
		return
	}
	if t.lined {
		in.fillLines(words[first/blockLen*lineRows*lineWords:], f, isa, from, to, first, end, finish)
		return
	}
	kernel, step := rowsFor(isa).quantize, f.rows()
	switch f {
	case pairs, single:
		kernel = rowsFor(isa).quantizePair
	case wide:
		kernel, step = rowsFor(isa).quantizeWide, wideWords
	}
	words = words[first*t.size/in.cols*(to-from):]
	for token := from; token < to; token++ {
		finish(token, first, end)
		kernel(words[(token-from)*step:], in.x[token*in.cols:][first:end], (to-from)*f.rows())
	}
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

// quantize is the portable quantisation of one token's row in a tile of rows.
func quantize(dst []uint32, x []float32, rows int) {
	for b := range len(x) / blockLen {
		quantizeBlock(dst[b*rows*intWords:], x[b*blockLen:][:blockLen], rows)
	}
}

// quantizePair is quantize with what the codes leave over in the next row.
func quantizePair(dst []uint32, x []float32, rows int) {
	var rest [blockLen]float32
	for b := range len(x) / blockLen {
		record, block := dst[b*rows*intWords:], x[b*blockLen:][:blockLen]
		quantizeBlock(record, block, rows)
		scale := float64(math.Float32frombits(record[8*rows]))
		for j, v := range block { // exact, as a fused multiplication and addition
			rest[j] = float32(float64(v) - scale*float64(int8(record[j/4*rows]>>(j%4*8))))
		}
		quantizeBlock(record[1:], rest[:], rows)
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
