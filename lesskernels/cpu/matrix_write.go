package cpu

import (
	"encoding/binary"
	"math"

	"lessrag/lesskernels"
)

// writer repacks rows of one storage type.
type writer struct {
	t      lesskernels.DType
	values []float32 // [cols], for layouts of plain numbers
}

// affine is one block of 32 weights, w = d·q + m.
type affine struct {
	q    [blockLen]uint8
	d, m float32 // where each half has its scale, m is the second
}

// row writes one source row to lane r of a panel.
func (w *writer) row(panel []byte, l layout, r, cols int, src []byte) {
	if l.integer() && l != words {
		w.codes(panel, l, r, cols/blockLen, src)
		return
	}
	if err := Dequantize(w.values, w.t, src); err != nil {
		panic(err) // the shape was checked
	}
	switch l {
	case words:
		writeWords(panel, r, w.values)
	case halves:
		for c, x := range w.values {
			binary.LittleEndian.PutUint16(panel[c*32+r*2:], toF16(x))
		}
	case brains:
		for c, x := range w.values {
			binary.LittleEndian.PutUint16(panel[c*32+r*2:], toBF16(x))
		}
	default:
		for c, x := range w.values {
			binary.LittleEndian.PutUint32(panel[c*64+r*4:], math.Float32bits(x))
		}
	}
}

// codes writes a quantised row.
func (w *writer) codes(panel []byte, l layout, r, blocks int, src []byte) {
	elements, size, _ := w.t.BlockSize()
	perBlock := int(elements) / blockLen // affine blocks in one of the source
	var a affine
	for b := range blocks {
		a.read(w.t, src[b/perBlock*int(size):][:size], b%perBlock)
		q := panel[b*(l.codeBytes()+l.scaleBytes()):]
		q, scales := q[:l.codeBytes()], q[l.codeBytes():]
		if l.codeBytes() == 256 {
			for j := range 16 {
				q[j/4*64+r*4+j%4] = a.q[j] | a.q[j+16]<<4
			}
		} else {
			for j, v := range a.q {
				q[j/4*64+r*4+j%4] = v
			}
		}
		binary.LittleEndian.PutUint16(scales[r*2:], toF16(a.d))
		if l.scaleBytes() == 64 {
			binary.LittleEndian.PutUint16(scales[32+r*2:], toF16(a.m))
		}
	}
}

// read takes the sub-block of 32 values out of one source block. Types without
// a minimum leave m to the layout: −8d for 4-bit codes, −128d for 8-bit ones.
func (a *affine) read(t lesskernels.DType, src []byte, sub int) {
	a.d = half(src)
	switch t {
	case lesskernels.Q4_0:
		a.nibbles(src[2:18])
	case lesskernels.Q4_1:
		a.nibbles(src[4:20])
		a.m = half(src[2:])
	case lesskernels.Q5_0:
		a.nibbles(src[6:22])
		a.fifth(binary.LittleEndian.Uint32(src[2:]))
		for i := range a.q {
			a.q[i] += 128 - 16
		}
	case lesskernels.Q5_1:
		a.nibbles(src[8:24])
		a.fifth(binary.LittleEndian.Uint32(src[4:]))
		a.m = half(src[2:])
	case lesskernels.Q8_0:
		for i, q := range src[2:34] {
			a.q[i] = q ^ 0x80
		}
	case lesskernels.Q4_K, lesskernels.Q5_K:
		a.superBlock(t, src, sub)
	case lesskernels.Q6_K:
		d := half(src[208:])
		a.d, a.m = d*float32(int8(src[192+sub*2])), d*float32(int8(src[193+sub*2]))
		for i := range a.q {
			a.q[i] = codeQ6K(src, sub*blockLen+i) + 128 - 32
		}
	}
}

// nibbles sets the codes from 16 bytes: low halves first.
func (a *affine) nibbles(qs []byte) {
	for i, v := range qs {
		a.q[i], a.q[i+16] = v&15, v>>4
	}
}

// fifth adds bit 4 of every code.
func (a *affine) fifth(bits uint32) {
	for i := range a.q {
		a.q[i] |= uint8(bits>>i&1) << 4
	}
}

// superBlock reads sub-block sub of a Q4_K or Q5_K block. Its scale and
// minimum become products of two numbers, rounded to f16 when stored.
func (a *affine) superBlock(t lesskernels.DType, src []byte, sub int) {
	sc, mn := scaleMin(sub, src[4:16])
	a.d, a.m = half(src)*float32(sc), -half(src[2:])*float32(mn)
	qs := src[16:]
	if t == lesskernels.Q5_K {
		qs = src[48:]
	}
	for i := range a.q {
		a.q[i] = qs[sub/2*32+i] >> (sub % 2 * 4) & 15
		if t == lesskernels.Q5_K {
			a.q[i] |= src[16+i] >> sub & 1 << 4
		}
	}
}
