package cpu

import (
	"sync"
	"unsafe"
)

// Lines are how the kernels of AMX read activations in codes or pairs: in tiles of 16 rows,
// of which the last are zero where there are fewer, whose codes of a block lie together,
//
//	[cols/32]{codes [16][32] int8, scale [16] f32, sum [16] f32}
//
// A kernel multiplies a tile with a panel unpacked to
//
//	[cols/32]{codes [8][16][4] int8, d [16] f32, m or second d [16] f32}
//
// whose codes are signed, without the offset that a layout does not store.
const (
	lineRows    = 16
	lineWords   = blockLen/4 + 2 // of one row and block
	panelRecord = panelRows * (blockLen + 2*4)
)

// fewLines is the tokens from which on the integer forms are in lines, where there is AMX:
// with fewer, to unpack the weights takes longer than is gained.
const fewLines = 32

// lined tells whether kernels of an instruction set read n tokens of a form in lines.
func (i ISA) lined(f form, n int) bool {
	return i >= AMX && n >= fewLines && (f == codes || f == pairs)
}

// lineRoom is what a product with tiles of lines needs.
type lineRoom struct {
	dots    []byte    // of two steps of two tiles
	panel   []byte    // an unpacked one
	product []float32 // a panel's, of all rows
}

var lineRooms = sync.Pool{New: func() any { return &lineRoom{dots: atLine(4 * 4 * lineRows * panelRows)} }}

// atLine returns n bytes that begin with a line of the cache.
func atLine(n int) []byte {
	b := make([]byte, n+63)
	return b[-uintptr(unsafe.Pointer(&b[0]))&63:][:n]
}

// roomForLines returns room for the product of n rows with a matrix; it goes back to
// lineRooms.
func (m *Matrix) roomForLines(n int) *lineRoom {
	r := lineRooms.Get().(*lineRoom)
	if size := m.steps * panelRecord; len(r.panel) < size {
		r.panel = atLine(size)
	}
	if size := tileCount(n, lineRows) * lineRows * panelRows; len(r.product) < size {
		r.product = make([]float32, size)
	}
	return r
}

// fillLines is fill of a tile of lines of the tokens [from, to).
func (in *Input) fillLines(words []uint32, f form, isa ISA, from, to, first, end int, finish func(row, from, to int)) {
	kernel := rowsFor(isa).quantizeLines
	if f == pairs {
		kernel = rowsFor(isa).quantizePairLines
	}
	for token := from; token < to; token++ {
		finish(token, first, end)
		kernel(words, in.x[token*in.cols:][first:end], (token-from)*f.rows())
	}
	for row := (to - from) * f.rows(); row < lineRows; row++ {
		for b := range (end - first) / blockLen {
			record := words[b*lineRows*lineWords:][:lineRows*lineWords]
			clear(record[row*blockLen/4:][:blockLen/4])
			record[lineRows*blockLen/4+row], record[lineRows*(blockLen/4+1)+row] = 0, 0
		}
	}
}
