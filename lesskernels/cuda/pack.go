package cuda

import (
	"encoding/binary"
	"fmt"
	"math"

	"lessrag/lesskernels"
)

// layout is how kernels read weights: see src/product.py.
type layout string

const (
	nibbles  layout = "nibbles"  // 4-bit codes; a scale and an offset for every 32 columns
	octets16 layout = "octets16" // 8-bit codes with a sign; a scale for every 16 columns
	octets32 layout = "octets32" // and for every 32
	offset32 layout = "offset32" // and an offset
	f16      layout = "f16"      // numbers as they are
	bf16     layout = "bf16"
)

// layouts of the types that are read, all of which keep their codes as they are.
var layouts = map[lesskernels.DType]layout{
	lesskernels.F16:  f16,
	lesskernels.BF16: bf16,
	lesskernels.Q4_0: nibbles,
	lesskernels.Q4_1: nibbles,
	lesskernels.Q5_0: octets32,
	lesskernels.Q5_1: offset32,
	lesskernels.Q8_0: octets32,
	lesskernels.Q4_K: nibbles,
	lesskernels.Q5_K: offset32,
	lesskernels.Q6_K: octets16,
}

// numbers tells whether there are no codes, but numbers of 16 bits.
func (l layout) numbers() bool { return l == f16 || l == bf16 }

// group is how many columns stand together.
func (l layout) group() int {
	if l == octets16 {
		return 16
	}
	return 32
}

// codeBytes is the size of the codes, or numbers, of one row's group.
func (l layout) codeBytes() int {
	switch {
	case l == nibbles:
		return 16
	case l.numbers():
		return 2 * l.group()
	}
	return l.group()
}

// Packed is a weight matrix [outs, cols] in the order in which kernels read it.
type Packed struct {
	Outs, Cols int
	layout     layout
	codes      []byte // [cols/group, outs, codeBytes]
	scales     []byte // [cols/group, outs] f16, where there are codes
	offsets    []byte // likewise, of nibbles and offset32
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
	if cols%l.group() != 0 {
		return nil, fmt.Errorf("cuda: pack %v [%d, %d]: columns are no multiple of %d", t, outs, cols, l.group())
	}
	groups := cols / l.group()
	p := &Packed{Outs: outs, Cols: cols, layout: l, codes: make([]byte, groups*outs*l.codeBytes())}
	if !l.numbers() {
		p.scales = make([]byte, 2*groups*outs)
	}
	if l == nibbles || l == offset32 {
		p.offsets = make([]byte, 2*groups*outs)
	}
	elements := max(int(values), l.group()) // that are packed together
	bytes := elements / int(values) * int(size)
	perRow := cols / elements
	for row := range outs {
		for i := range perRow {
			p.block(t, row, i, data[(row*perRow+i)*bytes:][:bytes])
		}
	}
	return p, nil
}

// Bytes is what the matrix takes on the device.
func (p *Packed) Bytes() int64 { return int64(len(p.codes) + len(p.scales) + len(p.offsets)) }

// block packs block i of a row. What the blocks are is told by lesskernels/cpu.Dequantize.
func (p *Packed) block(t lesskernels.DType, row, i int, src []byte) {
	at := p.at(row, i)
	switch t {
	case lesskernels.F16, lesskernels.BF16:
		copy(p.codes[at*64:][:64], src)
	case lesskernels.Q4_0: // d f16, nibbles; w = d·(q − 8)
		copy(p.codes[at*16:][:16], src[2:])
		copy(p.scales[at*2:][:2], src)
		p.put(p.offsets, at, -8*half(src))
	case lesskernels.Q4_1: // d, m f16, nibbles; w = d·q + m
		copy(p.codes[at*16:][:16], src[4:])
		copy(p.scales[at*2:][:2], src)
		copy(p.offsets[at*2:][:2], src[2:])
	case lesskernels.Q5_0: // d f16, fifth bits, nibbles; w = d·(q − 16)
		for j := range 32 {
			p.codes[at*32+j] = codeQ5(src[2:], j) - 16
		}
		copy(p.scales[at*2:][:2], src)
	case lesskernels.Q5_1: // d, m f16, fifth bits, nibbles; w = d·q + m
		for j := range 32 {
			p.codes[at*32+j] = codeQ5(src[4:], j)
		}
		copy(p.scales[at*2:][:2], src)
		copy(p.offsets[at*2:][:2], src[2:])
	case lesskernels.Q8_0: // d f16, bytes; w = d·q
		copy(p.codes[at*32:][:32], src[2:])
		copy(p.scales[at*2:][:2], src)
	case lesskernels.Q4_K, lesskernels.Q5_K:
		p.super(t, row, i, src)
	case lesskernels.Q6_K: // nibbles, pairs of bits, scales, d f16; w = d·scale·(q − 32)
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

// super packs a block of 256 with two levels of scales: d, dmin f16, 12 bytes of scales and minima, of Q5_K
// 32 bytes whose bit j is the fifth of sub-block j, and nibbles, a sub-block low and the next one high;
// w = d·scale·q − dmin·minimum. Both products are rounded: at most 2⁻¹¹ of them.
func (p *Packed) super(t lesskernels.DType, row, i int, src []byte) {
	d, dmin, codes := half(src), half(src[2:]), src[len(src)-128:]
	for sub := range 8 {
		at := p.at(row, i*8+sub)
		scale, minimum := scaleMin(sub, src[4:16])
		p.put(p.scales, at, d*float32(scale))
		p.put(p.offsets, at, -dmin*float32(minimum))
		for j := range 32 {
			code := codes[sub/2*32+j] >> (sub % 2 * 4) & 15
			if t == lesskernels.Q4_K {
				p.codes[at*16+j%16] |= code << (j / 16 * 4)
			} else {
				p.codes[at*32+j] = code | src[16+j]>>sub&1<<4
			}
		}
	}
}

// scaleMin unpacks the 6-bit scale and minimum of a sub-block.
func scaleMin(sub int, s []byte) (scale, minimum byte) {
	if sub < 4 {
		return s[sub] & 63, s[sub+4] & 63
	}
	return s[sub+4]&15 | s[sub-4]>>6<<4, s[sub+4]>>4 | s[sub]>>6<<4
}

// codeQ5 is the 5-bit code of value i of 32: the fifth bits, and then nibbles, the first 16 values low.
func codeQ5(src []byte, i int) byte {
	return src[4+i%16]>>(i/16*4)&15 | src[i/8]>>(i%8)&1<<4
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
