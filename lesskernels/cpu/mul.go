package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
)

// Product is a matrix and where its product with an Input goes.
type Product struct {
	Matrix *Matrix
	Dst    []float32 // [n, rows]
	// Pairs multiplies a quantised matrix also with what rounding the input to int8
	// left over: 16 bits in all, for twice the arithmetic and no more reading.
	Pairs bool
	// Add adds the product to what is in Dst.
	Add bool
	// Together is how many columns of Dst one thread computes in a row, such as those of
	// a head; zero for any number. All, where these are no whole number of panels.
	Together int
	// Finish, if not nil, is called by the thread that has just computed those of all
	// rows: columns [from, to).
	Finish func(from, to int)
}

// group is the panels that are computed together.
func (p Product) group() int {
	switch {
	case p.Together == 0:
		return 1
	case p.Together%panelRows == 0:
		return p.Together / panelRows
	}
	return p.Matrix.panels()
}

// form is what the product's kernels read.
func (p Product) form() form {
	switch {
	case !p.Matrix.layout.integer():
		return plain
	case p.Matrix.layout == words:
		return wide
	case p.Pairs:
		return pairs
	}
	return codes
}

// Mul writes dst [n, rows] = x · Wᵀ for the input's n rows of activations.
func (m *Matrix) Mul(p *Pool, dst []float32, in *Input) {
	MulAll(p, in, Product{Matrix: m, Dst: dst})
}

// MulAll does several products with one input in one Run of the pool. All matrices
// have the input's columns.
func MulAll(p *Pool, in *Input, products ...Product) {
	if in.n == 0 {
		return
	}
	units, micros := 0, 0.0
	for _, product := range products {
		product.check(in)
		units, micros = units+product.units(in.n), micros+product.micros(in.n)
	}
	in.ready(p, products)
	if micros < fewMicros {
		unitsOf(products, in.mine(0, products), 0, units)
		return
	}
	p.Ranges(units, func(from, to, thread int) { unitsOf(products, in.mine(thread, products), from, to) })
}

// check panics where shapes disagree.
func (p Product) check(in *Input) {
	if m := p.Matrix; in.cols != m.cols || len(p.Dst) < in.n*m.rows {
		panic(fmt.Sprintf("cpu: product of input [%d, %d] with matrix [%d, %d] into %d values",
			in.n, in.cols, m.rows, m.cols, len(p.Dst)))
	}
}

// unitsOf multiplies the groups of panels that begin in units [from, to) of all
// products, one after the other.
func unitsOf(products []Product, in *Input, from, to int) {
	for _, product := range products {
		n, each, group := product.units(in.n), product.unitsOfGroup(in.n), product.group()
		if from < n && to > 0 {
			product.panels(in, (max(0, from)+each-1)/each*group, (min(to, n)+each-1)/each*group)
		}
		from, to = from-n, to-n
	}
}

// units is the cost of a product, for sharing it out.
func (p Product) units(n int) int { return p.Matrix.panels() * p.unitsOfPanel(n) }

// unitsOfPanel tells how a panel for n tokens compares with those of other forms:
// pairs take twice the arithmetic, most of which hides behind the reading where there
// are few tokens.
func (p Product) unitsOfPanel(n int) int {
	switch {
	case p.form() != pairs:
		return 2
	case n < fewPairs:
		return 3
	}
	return 4
}

// unitsOfGroup is unitsOfPanel of those that are computed together.
func (p Product) unitsOfGroup(n int) int { return p.unitsOfPanel(n) * p.group() }

// fewPairs is the tokens from which on arithmetic takes longer than reading.
const fewPairs = 4

// fewMicros is what one thread does sooner than several.
const fewMicros = 5

// micros is about how long one thread takes for n tokens.
func (p Product) micros(n int) float64 {
	m := p.Matrix
	return float64(len(m.data))/15e3 + float64(m.rows)*float64(m.cols)*float64(n*p.form().rows())/m.isa.macsPerMicro()
}

// macsPerMicro is a rough rate of multiply-adds of one core.
func (i ISA) macsPerMicro() float64 {
	return [...]float64{Portable: 1e3, AVX2: 50e3, AVX512: 100e3}[min(i, AVX512)]
}

// mostRows is the most rows of a tile that is not of lines.
const mostRows = 12

// width is the most of n tokens that are in a tile for the instruction set's kernels.
func (i ISA) width(f form, n int) int {
	rows := 4
	switch {
	case i.lined(f, n):
		rows = lineRows
	case f == single:
		return 1
	case i >= AVX512:
		rows = mostRows
	case i == AVX2 && f == plain:
		rows = 6
	}
	return rows / f.rows()
}

// productScratch is for the product of a panel with one tile.
var productScratch = sync.Pool{New: func() any { return new([mostRows * panelRows]float32) }}

// panels multiplies panels [from, to) with every tile of the input, full ones of lines
// together. The product goes by way of a scratch where a token has two rows, or the last
// panel or a tile of lines rows to spare.
func (p Product) panels(in *Input, from, to int) {
	m, f := p.Matrix, p.form()
	t := &in.forms[f]
	var product []float32
	var room *lineRoom
	if t.lined {
		room = m.roomForLines(in.n * f.rows())
		defer lineRooms.Put(room)
		product = room.product
	} else if f == pairs || p.Add || to*panelRows > m.rows {
		scratch := productScratch.Get().(*[mostRows * panelRows]float32)
		defer productScratch.Put(scratch)
		product = scratch[:]
	}
	kernels, group := rowsFor(m.isa), p.group()
	to = min(to, m.panels())
	runs := in.runs(t)
	var words []uint32
	var first, end int
	if from < to && in.n <= fewStreamed && f != plain {
		Ask(m.data[from*m.panel:][:min(codesAhead, (to-from)*m.panel)])
	}
	for panel := from; panel < to; panel++ {
		rows := min(panelRows, m.rows-panel*panelRows)
		ahead := min(codesAhead, (to-1-panel)*m.panel) // what lies behind the last is read by others
		if t.lined {
			m.unpack(room, m.at(panel))
		}
		for i := range runs {
			if runs > 1 || panel == from { // one is the same for all
				words, first, end = in.run(t, i)
			}
			dst, n := p.Dst[first*m.rows+panel*panelRows:], (end-first)*f.rows()
			y, stride := product, panelRows
			direct := f != pairs && rows == panelRows && !p.Add && !(t.lined && n%lineRows > 0)
			if direct {
				y, stride = dst, m.rows
			}
			if t.lined {
				m.mulLines(y, stride, words, tileCount(n, lineRows), room)
			} else {
				m.mulTile(y, stride, words, n, m.at(panel), ahead)
			}
			if direct {
				continue
			}
			if f == pairs && rows == panelRows && !p.Add {
				kernels.addPairs(dst, m.rows, product, end-first)
				continue
			}
			if f == pairs {
				kernels.addPairs(product, panelRows, product, end-first)
			}
			if p.Add && rows == panelRows {
				kernels.addRows(dst, m.rows, product, end-first)
				continue
			}
			for token := range end - first {
				to, from := dst[token*m.rows:][:rows], product[token*panelRows:]
				if p.Add {
					axpy(to, 1, from[:rows])
				} else {
					copy(to, from)
				}
			}
		}
		if done := panel + 1; p.Finish != nil && (done%group == 0 || done == m.panels()) {
			p.Finish((done-1)/group*group*panelRows, min(done*panelRows, m.rows))
		}
	}
}

// addPairs is the portable sum of rows two by two: dst, one row of 16 values every
// stride, may be src.
func addPairs(dst []float32, stride int, src []float32, pairs int) {
	for i := range pairs {
		one, two, to := src[2*i*panelRows:][:panelRows], src[(2*i+1)*panelRows:][:panelRows], dst[i*stride:][:panelRows]
		for r := range to {
			to[r] = one[r] + two[r]
		}
	}
}

// addRows is the portable sum of rows of 16 values with those of dst, stride apart.
func addRows(dst []float32, stride int, src []float32, n int) {
	for i := range n {
		axpy(dst[i*stride:][:panelRows], 1, src[i*panelRows:][:panelRows])
	}
}

// fewStreamed is the most tokens whose products wait for the memory: see tokensStreamed in
// package gen.
const fewStreamed = 8

// codesAhead is how far ahead, in bytes, weights in codes are asked for. A core that has a
// way to memory of its own reads 46 GB/s, and needs that much under way while the memory
// answers.
const codesAhead = 8192

// mulTile writes the 16 products of a panel with each of n tokens to dst, one
// token every stride values.
func (m *Matrix) mulTile(dst []float32, stride int, x []uint32, n int, panel []byte, ahead int) {
	if m.mulAssembly(dst, stride, x, n, panel, ahead) {
		return
	}
	switch m.layout {
	case floats, halves, brains:
		mulFloats(m.layout, dst, stride, x, n, panel, m.cols)
	case words:
		mulWords(dst, stride, x, n, panel, m.cols)
	default:
		mulCodes(m.layout, dst, stride, x, n, panel, m.cols/blockLen)
	}
}

// mulFloats is the portable product with plain numbers.
func mulFloats(l layout, dst []float32, stride int, x []uint32, n int, panel []byte, cols int) {
	for i := range n {
		var sum [panelRows]float32
		for c := range cols {
			v := math.Float32frombits(x[c*n+i])
			switch l {
			case floats:
				w := panel[c*64:][:64]
				for r := range sum {
					sum[r] += v * math.Float32frombits(binary.LittleEndian.Uint32(w[r*4:]))
				}
			case halves:
				for r := range sum {
					sum[r] += v * half(panel[c*32+r*2:])
				}
			default:
				for r := range sum {
					sum[r] += v * fromBF16(binary.LittleEndian.Uint16(panel[c*32+r*2:]))
				}
			}
		}
		copy(dst[i*stride:], sum[:])
	}
}

// mulCodes is the portable product of quantised weights with int8 activations:
// y += d·scale·(Σ q·x + bias) or, with a stored minimum, d·scale·Σ q·x + m·sum.
// Where each half of a block has its scale, both are done so.
func mulCodes(l layout, dst []float32, stride int, x []uint32, n int, panel []byte, blocks int) {
	var codes [blockLen]uint8
	for i := range n {
		clear(dst[i*stride:][:panelRows])
	}
	for b := range blocks {
		record := x[b*n*intWords:][:n*intWords]
		for r := range panelRows {
			d, m := l.block(&codes, panel, b, r)
			for i := range n {
				first, second := mulHalf(codes[:16], record[i:], n), mulHalf(codes[16:], record[4*n+i:], n)
				scale, bias := math.Float32frombits(record[8*n+i]), int32(record[9*n+i])
				y := &dst[i*stride+r]
				switch l {
				case nibbles:
					*y += d[0] * (float32(first+second+bias) * scale)
				case octets:
					*y += d[0] * (float32(first+second+bias<<4) * scale)
				case octetsHalves:
					firstBias := int32(record[11*n+i])
					*y += d[0] * (float32(first+firstBias<<4) * scale)
					*y += d[1] * (float32(second+(bias-firstBias)<<4) * scale)
				default:
					*y += d[0]*(float32(first+second)*scale) + m[0]*math.Float32frombits(record[10*n+i])
				}
			}
		}
	}
}

// mulHalf is Σ q·x over 16 codes and four words of activations, n apart.
func mulHalf(codes []uint8, x []uint32, n int) int32 {
	dot := int32(0)
	for g := range 4 {
		w, q := x[g*n], codes[g*4:][:4]
		dot += int32(q[0])*int32(int8(w)) + int32(q[1])*int32(int8(w>>8)) +
			int32(q[2])*int32(int8(w>>16)) + int32(q[3])*int32(int8(w>>24))
	}
	return dot
}
