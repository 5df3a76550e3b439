package cpu

import (
	"encoding/binary"
	"fmt"
	"math"

	"lessrag/lesskernels"
)

const (
	panelRows = 16 // rows of a panel: one 32-bit lane of a 512-bit register each
	blockLen  = 32 // values that share a scale
)

// layout is how a panel stores its weights. Quantised ones are affine in
// blocks of 32 values of a row, w = d·q + m with unsigned codes q.
type layout uint8

const (
	floats       layout = iota // [cols][16] float32
	halves                     // [cols][16] binary16
	brains                     // [cols][16] bfloat16
	nibbles                    // 4-bit codes, m = −8d
	nibblesMin                 // 4-bit codes, m stored
	octets                     // 8-bit codes, m = −128d
	octetsMin                  // 8-bit codes below 32, m stored
	octetsHalves               // 8-bit codes, a d for each 16 columns, m = −128d
	words                      // 13-bit codes with a sign in blocks of 128, m = 0: see PackWords
)

// integer tells whether the layout is multiplied by activations in integers.
func (l layout) integer() bool { return l >= nibbles }

// unit is the columns that a kernel takes at a step.
func (l layout) unit() int {
	switch {
	case l == words:
		return wordBlock
	case l.integer():
		return blockLen
	}
	return 1
}

// codeBytes is the size of the codes of one block of 16 rows, or of one
// column of 16 rows where there are no blocks.
func (l layout) codeBytes() int {
	return [...]int{floats: 64, halves: 32, brains: 32, nibbles: 256, nibblesMin: 256, octets: 512, octetsMin: 512, octetsHalves: 512, words: wordBlock * 2 * panelRows}[l]
}

// scaleBytes is the size of the scales (and minima or second scales) of one
// block of 16 rows.
func (l layout) scaleBytes() int {
	return [...]int{floats: 0, halves: 0, brains: 0, nibbles: 32, nibblesMin: 64, octets: 32, octetsMin: 64, octetsHalves: 64, words: 64}[l]
}

// layouts of the types as Pack stores them.
var layouts = map[lesskernels.DType]layout{
	lesskernels.F32:  floats,
	lesskernels.F16:  halves,
	lesskernels.BF16: brains,
	lesskernels.Q4_0: nibbles,
	lesskernels.Q4_1: nibblesMin,
	lesskernels.Q5_0: octets,
	lesskernels.Q5_1: octetsMin,
	lesskernels.Q8_0: octets,
	lesskernels.Q4_K: nibblesMin,
	lesskernels.Q5_K: octetsMin,
	lesskernels.Q6_K: octetsHalves,
}

// Matrix is a weight matrix [rows, cols], repacked once at load into panels of
// 16 rows, in the order in which kernels read them:
//
//	floats      [cols][16]
//	nibbles     [cols/32]{codes [4][16][4], d [16] f16, m [16] f16 if stored}
//	            the byte at (c, row, j) holds the codes of columns 4c+j (low half)
//	            and 16+4c+j (high half) of the block
//	octets      [cols/32]{codes [8][16][4], d [16] f16, m [16] f16 if stored}
//	            the byte at (c, row, j) is the code of column 4c+j; with a scale for
//	            each half, the second one is in the place of m
//	words       [cols/128]{codes [64][16][2] int16, d [16] f32}
//
// Rows beyond the last are zero.
type Matrix struct {
	rows, cols int
	layout     layout
	isa        ISA
	panel      int    // bytes of one panel, a multiple of 64
	steps      int    // of a kernel in a panel
	scales     int    // where a panel's scales begin; 0 where it has none
	data       []byte // [panels][panel], 64-byte aligned
}

// Pack repacks a matrix for an instruction set: quantised types for int8
// activations, F32, F16 and BF16 for float32 arithmetic. data holds rows·cols values of type t, row by row.
// It refuses an unknown type, sizes that disagree, and a quantised matrix
// whose columns are no whole number of blocks.
func Pack(t lesskernels.DType, data []byte, rows, cols int, isa ISA) (*Matrix, error) {
	return pack(t, layouts[t], data, rows, cols, isa)
}

// PackFloat32 repacks a matrix of any type as float32: the reference math.
func PackFloat32(t lesskernels.DType, data []byte, rows, cols int, isa ISA) (*Matrix, error) {
	return pack(t, floats, data, rows, cols, isa)
}

func pack(t lesskernels.DType, l layout, data []byte, rows, cols int, isa ISA) (*Matrix, error) {
	rowBytes, err := checkShape(t, data, rows, cols)
	if err != nil {
		return nil, fmt.Errorf("cpu: pack %v [%d, %d]: %w", t, rows, cols, err)
	}
	if isa > Best() {
		return nil, fmt.Errorf("cpu: pack %v [%d, %d]: this machine has no %v", t, rows, cols, isa)
	}
	m := &Matrix{rows: rows, cols: cols, layout: l, isa: isa.ofProducts(), steps: cols / l.unit()}
	if l.integer() {
		m.scales = l.codeBytes()
	}
	m.panel = (m.steps*(l.codeBytes()+l.scaleBytes()) + 63) &^ 63
	m.data = aligned(m.panels() * m.panel)
	w := &writer{t: t, values: make([]float32, cols)}
	for r := range rows {
		w.row(m.at(r/panelRows), l, r%panelRows, cols, data[r*rowBytes:][:rowBytes])
	}
	return m, nil
}

// checkShape returns the bytes of one row.
func checkShape(t lesskernels.DType, data []byte, rows, cols int) (int, error) {
	elements, bytes, ok := t.BlockSize()
	switch {
	case !ok:
		return 0, fmt.Errorf("the type is not supported")
	case rows <= 0 || cols <= 0 || rows > math.MaxInt32 || cols > math.MaxInt32:
		return 0, fmt.Errorf("both sizes must be positive and below 2³¹")
	case int64(cols)%elements != 0:
		return 0, fmt.Errorf("the columns must be a multiple of the block of %d", elements)
	}
	row := int64(cols) / elements * bytes
	if int64(len(data))/row != int64(rows) || int64(len(data))%row != 0 {
		return 0, fmt.Errorf("%d rows of %d bytes expected, got %d bytes", rows, row, len(data))
	}
	return int(row), nil
}

// Rows is the length of an output row.
func (m *Matrix) Rows() int { return m.rows }

// Cols is the length of an input row.
func (m *Matrix) Cols() int { return m.cols }

// Bytes is the memory that the packed weights take, and a product reads.
func (m *Matrix) Bytes() int64 { return int64(len(m.data)) }

func (m *Matrix) panels() int         { return (m.rows + panelRows - 1) / panelRows }
func (m *Matrix) at(panel int) []byte { return m.data[panel*m.panel:][:m.panel] }

// Row writes the cols values of row i to dst, as the packed form holds them.
func (m *Matrix) Row(dst []float32, i int) {
	dst = dst[:m.cols]
	p, r := m.at(i/panelRows), i%panelRows
	switch m.layout {
	case floats:
		for c := range dst {
			dst[c] = math.Float32frombits(binary.LittleEndian.Uint32(p[c*64+r*4:]))
		}
	case halves:
		for c := range dst {
			dst[c] = half(p[c*32+r*2:])
		}
	case brains:
		for c := range dst {
			dst[c] = fromBF16(binary.LittleEndian.Uint16(p[c*32+r*2:]))
		}
	case words:
		for c := range dst {
			dst[c] = wordOf(p, c, r)
		}
	default:
		var codes [blockLen]uint8
		for b := range m.cols / blockLen {
			d, m := m.layout.block(&codes, p, b, r)
			for j, q := range codes {
				dst[b*blockLen+j] = d[j/16]*float32(q) + m[j/16]
			}
		}
	}
}

// block reads block b of row r of a panel: its codes, and for each half of it
// the scale and the offset.
func (l layout) block(codes *[blockLen]uint8, panel []byte, b, r int) (d, m [2]float32) {
	q := panel[b*(l.codeBytes()+l.scaleBytes()):]
	q, scales := q[:l.codeBytes()], q[l.codeBytes():]
	if l.codeBytes() == 256 {
		for j := range 16 {
			v := q[j/4*64+r*4+j%4]
			codes[j], codes[j+16] = v&15, v>>4
		}
	} else {
		for j := range codes {
			codes[j] = q[j/4*64+r*4+j%4]
		}
	}
	first, second := half(scales[r*2:]), float32(0)
	if l.scaleBytes() == 64 {
		second = half(scales[32+r*2:])
	}
	switch l {
	case nibbles:
		return [2]float32{first, first}, [2]float32{-8 * first, -8 * first}
	case octets:
		return [2]float32{first, first}, [2]float32{-128 * first, -128 * first}
	case octetsHalves:
		return [2]float32{first, second}, [2]float32{-128 * first, -128 * second}
	}
	return [2]float32{first, first}, [2]float32{second, second}
}
