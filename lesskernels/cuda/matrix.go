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
	memory     device.Pointer // codes or numbers, and then scales
	scales     device.Pointer
}

// place is where parts of memory begin: at multiples of 256 bytes.
const place = 256

// Upload takes memory of the device for a matrix.
func (p *Packed) Upload(d device.Device, s device.Stream) (*Matrix, error) {
	scales := roundUp(len(p.codes))
	memory, err := d.Alloc(int64(scales + roundUp(len(p.scales))))
	if err != nil {
		return nil, err
	}
	m := &Matrix{Outs: p.Outs, Cols: p.Cols, layout: p.layout, memory: memory, scales: memory + device.Pointer(scales)}
	if err = s.Upload(m.memory, p.codes); err == nil {
		err = s.Upload(m.scales, p.scales)
	}
	if err != nil {
		return nil, errors.Join(err, m.Free(d))
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
	if m.layout.numbers() > 0 {
		return []uint64{address(m.memory)}
	}
	return []uint64{address(m.memory), address(m.scales)}
}

// Of src/build.py: rows of a program with few and with many, and its outputs, of codes and of numbers.
const (
	fewRows     = 16
	manyRows    = 64
	fewOuts     = tileRows
	manyOuts    = 2 * tileRows
	numbersOuts = 64
	embedBlock  = 256
)

// Multiply writes y[r, o] = Σ x[r, c]·m[o, c]: x [rows, cols] bf16; y [rows, stride] f32, of
// which the first outs are written. A row's result does not depend on how many there are.
func (k *Kernels) Multiply(s device.Stream, m *Matrix, x, y device.Pointer, rows, stride int) error {
	name, tile, outs := "few", fewRows, fewOuts
	if rows > fewRows {
		name, tile, outs = "many", manyRows, manyOuts
	}
	if m.layout.numbers() > 0 {
		outs = numbersOuts
	}
	args := append([]uint64{address(x)}, m.weights()...)
	args = append(args, address(y), device.I32(rows), device.I32(m.Outs), device.I32(m.Cols), device.I32(stride))
	return k.launch(s, fmt.Sprintf("multiply_%s_%s", m.layout, name), device.Grid{X: blocks(m.Outs, outs), Y: blocks(rows, tile), Z: 1}, args...)
}

// Embed writes to x [rows, cols] f32 the rows of a matrix that tokens [rows] i32 name.
func (k *Kernels) Embed(s device.Stream, m *Matrix, tokens, x device.Pointer, rows int) error {
	args := append([]uint64{address(tokens)}, m.weights()...)
	if args = append(args, address(x)); m.layout.numbers() > 0 {
		args = append(args, device.I32(m.Outs))
	}
	args = append(args, device.I32(m.Cols))
	return k.launch(s, fmt.Sprintf("embed_%s", m.layout), device.Grid{X: rows, Y: blocks(m.Cols, embedBlock), Z: 1}, args...)
}
