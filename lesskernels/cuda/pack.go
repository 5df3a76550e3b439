package cuda

import (
	"encoding/binary"
	"fmt"
	"math"

	"lessrag/lesskernels"
)

// layout is how kernels read weights: see src/codes.py and src/product.py.
type layout string

const (
	nibbles  layout = "nibbles"  // 4-bit codes; a scale and an offset for every 32 columns
	octets16 layout = "octets16" // 8-bit codes with a sign; a scale for every 16 columns
	octets32 layout = "octets32" // and for every 32
	offset32 layout = "offset32" // and an offset
	f16      layout = "f16"      // numbers as they are
	bf16     layout = "bf16"
	f32      layout = "f32"
)

// layouts of the types that are read, all of which keep their codes as they are.
var layouts = map[lesskernels.DType]layout{
	lesskernels.F32:  f32,
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

// numbers is how many bytes a number has where there are no codes; 0, where there are.
func (l layout) numbers() int {
	switch l {
	case f16, bf16:
		return 2
	case f32:
		return 4
	}
	return 0
}

// group is how many columns stand together.
func (l layout) group() int {
	if l == octets16 {
		return 16
	}
	return 32
}

// offset tells whether there are offsets beside the scales.
func (l layout) offset() bool { return l == nibbles || l == offset32 }

// laneWords is how many words of codes of a tile's group one thread has.
func (l layout) laneWords() int {
	if l == nibbles {
		return l.group() / 16
	}
	return l.group() / 8
}

// Of a matrix in codes, rows and groups are filled up to multiples of these.
const (
	tileRows   = 16
	tileGroups = 4
)

// Packed is a weight matrix [outs, cols] in the order in which kernels read it.
type Packed struct {
	Outs, Cols int
	layout     layout
	codes      []byte // codes [tiles, groups, 32, laneWords] u32, or numbers [groups, outs, 32]
	scales     []byte // [tiles, groups, 8, 2] f16, where there are codes; each with its offset where there are offsets
}

// Pack brings a matrix of outs rows of cols values into the kernels' order.
func Pack(t lesskernels.DType, data []byte, outs, cols int) (*Packed, error) {
	l, ok := layouts[t]
	if !ok {
		return nil, fmt.Errorf("cuda: pack %v [%d, %d]: the type is not read on a card", t, outs, cols)
	}
	values, size, _ := t.BlockSize()
	if outs < 1 || cols < 1 || outs > math.MaxInt32 || cols > math.MaxInt32 || cols%int(values) != 0 ||
		int64(len(data)) != int64(outs)*int64(cols)/values*size {
		return nil, fmt.Errorf("cuda: pack %v [%d, %d]: %d bytes are not of that shape", t, outs, cols, len(data))
	}
	if cols%l.group() != 0 {
		return nil, fmt.Errorf("cuda: pack %v [%d, %d]: columns are no multiple of %d", t, outs, cols, l.group())
	}
	p := &Packed{Outs: outs, Cols: cols, layout: l}
	if size := l.numbers(); size > 0 {
		p.codes = make([]byte, size*outs*cols)
	} else {
		cells := blocks(outs, tileRows) * p.groups()
		p.codes = make([]byte, cells*128*l.laneWords())
		p.scales = make([]byte, cells*tileRows*2*p.factors())
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
func (p *Packed) Bytes() int64 { return int64(len(p.codes) + len(p.scales)) }

// groups are those of a row, filled up.
func (p *Packed) groups() int { return blocks(p.Cols/p.layout.group(), tileGroups) * tileGroups }

// factors is how many numbers go with the codes of a row's group.
func (p *Packed) factors() int {
	if p.layout.offset() {
		return 2
	}
	return 1
}

// block packs block i of a row. What the blocks are is told by lesskernels/cpu.Dequantize.
func (p *Packed) block(t lesskernels.DType, row, i int, src []byte) {
	var codes [32]byte
	switch t {
	case lesskernels.F32, lesskernels.F16, lesskernels.BF16:
		copy(p.codes[(i*p.Outs+row)*len(src):][:len(src)], src)
	case lesskernels.Q4_0: // d f16, nibbles; w = d·(q − 8)
		for j := range codes {
			codes[j] = codeQ4(src[2:], j)
		}
		p.put(row, i, codes[:], bits(src), toHalf(-8*half(src)))
	case lesskernels.Q4_1: // d, m f16, nibbles; w = d·q + m
		for j := range codes {
			codes[j] = codeQ4(src[4:], j)
		}
		p.put(row, i, codes[:], bits(src), bits(src[2:]))
	case lesskernels.Q5_0: // d f16, fifth bits, nibbles; w = d·(q − 16)
		for j := range codes {
			codes[j] = codeQ5(src[2:], j) - 16
		}
		p.put(row, i, codes[:], bits(src), 0)
	case lesskernels.Q5_1: // d, m f16, fifth bits, nibbles; w = d·q + m
		for j := range codes {
			codes[j] = codeQ5(src[4:], j)
		}
		p.put(row, i, codes[:], bits(src), bits(src[2:]))
	case lesskernels.Q8_0: // d f16, bytes; w = d·q
		p.put(row, i, src[2:], bits(src), 0)
	case lesskernels.Q4_K, lesskernels.Q5_K:
		p.super(t, row, i, src)
	case lesskernels.Q6_K: // nibbles, pairs of bits, scales, d f16; w = d·scale·(q − 32)
		d := half(src[208:])
		for sub := range 16 {
			for j := range 16 {
				codes[j] = byte(codeQ6K(src, sub*16+j) - 32)
			}
			p.put(row, i*16+sub, codes[:16], toHalf(d*float32(int8(src[192+sub]))), 0) // rounded: at most 2⁻¹¹ of it
		}
	}
}

// super packs a block of 256 with two levels of scales: d, dmin f16, 12 bytes of scales and minima, of Q5_K
// 32 bytes whose bit j is the fifth of sub-block j, and nibbles, a sub-block low and the next one high;
// w = d·scale·q − dmin·minimum. Both products are rounded: at most 2⁻¹¹ of them.
func (p *Packed) super(t lesskernels.DType, row, i int, src []byte) {
	d, dmin, low := half(src), half(src[2:]), src[len(src)-128:]
	var codes [32]byte
	for sub := range 8 {
		scale, minimum := scaleMin(sub, src[4:16])
		for j := range codes {
			codes[j] = low[sub/2*32+j] >> (sub % 2 * 4) & 15
			if t == lesskernels.Q5_K {
				codes[j] |= src[16+j] >> sub & 1 << 4
			}
		}
		p.put(row, i*8+sub, codes[:], toHalf(d*float32(scale)), toHalf(-dmin*float32(minimum)))
	}
}

// put packs the codes of a row's group, its scale and, where there are offsets, its offset: in the order in which
// threads hold them, see src/codes.py.
func (p *Packed) put(row, group int, codes []byte, scale, offset uint16) {
	cell := row/tileRows*p.groups() + group
	second := row % tileRows / 8 // of the two rows of a tile that a thread has
	words, columns := p.layout.laneWords(), p.layout.group()/4
	for t := range 4 {
		mine := codes[t*columns:][:columns]
		to := p.codes[((cell*32+row%8*4+t)*words+second)*4:]
		if p.layout == nibbles {
			binary.LittleEndian.PutUint32(to, wordOf(mine))
			continue
		}
		for i, code := range mine {
			to[i/4*8+i%4] = code
		}
	}
	at := (cell*tileRows + row%8*2 + second) * p.factors()
	binary.LittleEndian.PutUint16(p.scales[2*at:], scale)
	if p.layout.offset() {
		binary.LittleEndian.PutUint16(p.scales[2*at+2:], offset)
	}
}

// wordOf packs eight codes of four bits: those of even columns, and then those of odd ones.
func wordOf(codes []byte) (word uint32) {
	for i, code := range codes {
		word |= uint32(code) << (i/2*4 + i%2*16)
	}
	return word
}

// scaleMin unpacks the 6-bit scale and minimum of a sub-block.
func scaleMin(sub int, s []byte) (scale, minimum byte) {
	if sub < 4 {
		return s[sub] & 63, s[sub+4] & 63
	}
	return s[sub+4]&15 | s[sub-4]>>6<<4, s[sub+4]>>4 | s[sub]>>6<<4
}

// codeQ4 is the 4-bit code of value i of 32: nibbles, the first 16 values low.
func codeQ4(src []byte, i int) byte { return src[i%16] >> (i / 16 * 4) & 15 }

// codeQ5 is the 5-bit code of value i of 32: the fifth bits, and then nibbles, the first 16 values low.
func codeQ5(src []byte, i int) byte {
	return codeQ4(src[4:], i) | src[i/8]>>(i%8)&1<<4
}

// codeQ6K is the 6-bit code of value i of a block: each half of 128 values has its
// nibbles in 64 bytes and its high pairs of bits in 32.
func codeQ6K(src []byte, i int) int8 {
	half, quarter, at := i/128, i%128/32, i%32
	low := src[half*64+quarter%2*32+at] >> (quarter / 2 * 4) & 15
	high := src[128+half*32+at] >> (quarter * 2) & 3
	return int8(low | high<<4)
}
