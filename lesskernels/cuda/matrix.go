package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cuda/device"
)

// layout is how kernels read weights: see src/product.py.
type layout string

const (
	nibbles  layout = "nibbles"  // 4-bit codes; a scale and an offset for every 32 columns
	octets16 layout = "octets16" // 8-bit codes with a sign; a scale for every 16 columns
	octets32 layout = "octets32" // and for every 32
)

// layouts of the types that are read, all of which keep their codes as they are.
var layouts = map[lesskernels.DType]layout{
	lesskernels.Q4_0: nibbles,
	lesskernels.Q4_1: nibbles,
	lesskernels.Q8_0: octets32,
	lesskernels.Q6_K: octets16,
}

func (l layout) group() int {
	if l == octets16 {
		return 16
	}
	return 32
}

// codeBytes is the size of the codes of one row's group.
func (l layout) codeBytes() int {
	if l == nibbles {
		return 16
	}
	return l.group()
}

// Packed is a weight matrix [outs, cols] in the order in which kernels read it.
type Packed struct {
	Outs, Cols int
	layout     layout
	codes      []byte // [cols/group, outs, codeBytes]
	scales     []byte // [cols/group, outs] f16
	offsets    []byte // likewise, of nibbles
}

// Pack brings a matrix of outs rows of cols values into the kernels' order.
func Pack(t lesskernels.DType, data []byte, outs, cols int) (*Packed, error) {
	l, ok := layouts[t]
	if !ok {
		return nil, fmt.Errorf("cuda: pack %v [%d, %d]: the type is not read on a card yet", t, outs, cols)
	}
	values, size, _ := t.BlockSize()
	if outs < 1 || cols < 1 || outs > math.MaxInt32 || cols > math.MaxInt32 || cols%int(values) != 0 ||
		int64(len(data)) != int64(outs)*int64(cols)/values*size {
		return nil, fmt.Errorf("cuda: pack %v [%d, %d]: %d bytes are not of that shape", t, outs, cols, len(data))
	}
	groups := cols / l.group()
	p := &Packed{Outs: outs, Cols: cols, layout: l, codes: make([]byte, groups*outs*l.codeBytes()), scales: make([]byte, 2*groups*outs)}
	if l == nibbles {
		p.offsets = make([]byte, 2*groups*outs)
	}
	perRow := cols / int(values)
	for row := range outs {
		for i := range perRow {
			p.block(t, row, i, data[(row*perRow+i)*int(size):][:size])
		}
	}
	return p, nil
}

// Bytes is what the matrix takes on the device.
func (p *Packed) Bytes() int64 { return int64(len(p.codes) + len(p.scales) + len(p.offsets)) }

// block packs block i of a row.
func (p *Packed) block(t lesskernels.DType, row, i int, src []byte) {
	switch t {
	case lesskernels.Q4_0: // d f16, nibbles; w = d·(q − 8)
		at := p.at(row, i)
		copy(p.codes[at*16:][:16], src[2:])
		copy(p.scales[at*2:][:2], src)
		p.put(p.offsets, at, -8*half(src))
	case lesskernels.Q4_1: // d, m f16, nibbles; w = d·q + m
		at := p.at(row, i)
		copy(p.codes[at*16:][:16], src[4:])
		copy(p.scales[at*2:][:2], src)
		copy(p.offsets[at*2:][:2], src[2:])
	case lesskernels.Q8_0: // d f16, bytes; w = d·q
		at := p.at(row, i)
		copy(p.codes[at*32:][:32], src[2:])
		copy(p.scales[at*2:][:2], src)
	case lesskernels.Q6_K: // see lesskernels/cpu: nibbles, pairs of bits, scales, d f16; w = d·scale·(q − 32)
		d := half(src[208:])
		for sub := range 16 {
			at := p.at(row, i*16+sub)
			for j := range 16 {
				p.codes[at*16+j] = byte(codeQ6K(src, sub*16+j) - 32)
			}
			p.put(p.scales, at, d*float32(int8(src[192+sub]))) // rounded: at most 2⁻¹¹ of it
		}
	}
}

// codeQ6K is the 6-bit code of value i of a block: each half of 128 values has its
// nibbles in 64 bytes and its high pairs of bits in 32.
func codeQ6K(src []byte, i int) int8 {
	half, quarter, at := i/128, i%128/32, i%32
	low := src[half*64+quarter%2*32+at] >> (quarter / 2 * 4) & 15
	high := src[128+half*32+at] >> (quarter * 2) & 3
	return int8(low | high<<4)
}

// at is where the group of a row is among all.
func (p *Packed) at(row, group int) int { return group*p.Outs + row }

func (p *Packed) put(to []byte, at int, x float32) {
	binary.LittleEndian.PutUint16(to[2*at:], toHalf(x))
}

// Matrix is a packed matrix on the device.
type Matrix struct {
	Outs, Cols int
	layout     layout
	memory     device.Pointer // codes, scales and offsets, one after the other
	scales     device.Pointer
	offsets    device.Pointer
}

// place is where parts of memory begin: at multiples of 256 bytes.
const place = 256

// Upload takes memory of the device for a matrix.
func (p *Packed) Upload(d device.Device, s device.Stream) (*Matrix, error) {
	scales := roundUp(len(p.codes))
	offsets := scales + roundUp(len(p.scales))
	memory, err := d.Alloc(int64(offsets + roundUp(len(p.offsets))))
	if err != nil {
		return nil, err
	}
	m := &Matrix{Outs: p.Outs, Cols: p.Cols, layout: p.layout, memory: memory, scales: memory + device.Pointer(scales), offsets: memory + device.Pointer(offsets)}
	for _, part := range []struct {
		to    device.Pointer
		bytes []byte
	}{{m.memory, p.codes}, {m.scales, p.scales}, {m.offsets, p.offsets}} {
		if err := s.Upload(part.to, part.bytes); err != nil {
			return nil, errors.Join(err, m.Free(d))
		}
	}
	return m, nil
}

func roundUp(n int) int { return (n + place - 1) &^ (place - 1) }

// Memory is what the matrix takes.
func (m *Matrix) Memory() device.Pointer { return m.memory }

// Free gives the memory back.
func (m *Matrix) Free(d device.Device) error { return d.Free(m.memory) }

// weights are the arguments of a kernel that name the matrix.
func (m *Matrix) weights() []uint64 {
	list := []uint64{address(m.memory), address(m.scales)}
	if m.layout == nibbles {
		list = append(list, address(m.offsets))
	}
	return list
}

// Of src/product.py: outputs of a program, and rows of a program with few and with many.
const (
	productOuts = 64
	fewRows     = 16
	manyRows    = 64
	embedBlock  = 256
)

// Multiply writes y[r, o] = Σ x[r, c]·m[o, c]: x [rows, cols] bf16; y [rows, stride] f32, of
// which the first outs are written. A row's result does not depend on how many there are.
func (k *Kernels) Multiply(s device.Stream, m *Matrix, x, y device.Pointer, rows, stride int) error {
	name, tile := "few", fewRows
	if rows > fewRows {
		name, tile = "many", manyRows
	}
	args := append([]uint64{address(x)}, m.weights()...)
	args = append(args, address(y), device.I32(rows), device.I32(m.Outs), device.I32(m.Cols), device.I32(stride))
	return k.launch(s, fmt.Sprintf("multiply_%s_%s", m.layout, name), device.Grid{X: blocks(m.Outs, productOuts), Y: blocks(rows, tile), Z: 1}, args...)
}

// Embed writes to x [rows, cols] f32 the rows of a matrix that tokens [rows] i32 name.
func (k *Kernels) Embed(s device.Stream, m *Matrix, tokens, x device.Pointer, rows int) error {
	args := append([]uint64{address(tokens)}, m.weights()...)
	args = append(args, address(x), device.I32(m.Outs), device.I32(m.Cols))
	return k.launch(s, fmt.Sprintf("embed_%s", m.layout), device.Grid{X: rows, Y: blocks(m.Cols, embedBlock), Z: 1}, args...)
}
