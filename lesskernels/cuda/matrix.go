package cuda

import (
	"errors"
	"fmt"

	"lessrag/lesskernels/cuda/device"
)

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
	if m.layout.numbers() {
		return []uint64{address(m.memory)}
	}
	return []uint64{address(m.memory), address(m.scales), address(m.offsets)}
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
