package cpu

import (
	"encoding/binary"
	"fmt"
	"math"

	"lessrag/lesskernels"
)

// Dequantize writes the values of whole blocks of type t in src to dst. It is
// the oracle of every packed layout. It refuses a type it does not know, a
// length that is no whole number of blocks, and a source of another size.
func Dequantize(dst []float32, t lesskernels.DType, src []byte) error {
	elements, bytes, ok := t.BlockSize()
	if !ok {
		return fmt.Errorf("cpu: dequantize: %v is not supported", t)
	}
	n := int64(len(dst))
	if n%elements != 0 {
		return fmt.Errorf("cpu: dequantize %v: %d values are no whole number of blocks of %d", t, n, elements)
	}
	if int64(len(src)) != n/elements*bytes {
		return fmt.Errorf("cpu: dequantize %v: %d values need %d bytes, got %d", t, n, n/elements*bytes, len(src))
	}
	switch t {
	case lesskernels.F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case lesskernels.F16:
		for i := range dst {
			dst[i] = half(src[2*i:])
		}
	case lesskernels.BF16:
		for i := range dst {
			dst[i] = fromBF16(binary.LittleEndian.Uint16(src[2*i:]))
		}
	default:
		f := dequantizers[t]
		for ; len(dst) > 0; dst, src = dst[elements:], src[bytes:] {
			f(dst[:elements], src[:bytes])
		}
	}
	return nil
}

// dequantizers decode one block of each quantised type; layouts are those of ggml.
var dequantizers = map[lesskernels.DType]func(dst []float32, src []byte){
	lesskernels.Q4_0: dequantizeQ40,
	lesskernels.Q4_1: dequantizeQ41,
	lesskernels.Q5_0: dequantizeQ50,
	lesskernels.Q5_1: dequantizeQ51,
	lesskernels.Q8_0: dequantizeQ80,
	lesskernels.Q4_K: dequantizeQ4K,
	lesskernels.Q5_K: dequantizeQ5K,
	lesskernels.Q6_K: dequantizeQ6K,
}

// half reads a little-endian binary16.
func half(b []byte) float32 { return fromF16(binary.LittleEndian.Uint16(b)) }

// dequantizeQ40: d f16, then 16 bytes whose low nibbles are values 0–15 and
// high nibbles values 16–31; w = d·(q−8).
func dequantizeQ40(dst []float32, src []byte) {
	d, qs := half(src), src[2:]
	for i := range 16 {
		dst[i] = d * float32(int(qs[i]&15)-8)
		dst[i+16] = d * float32(int(qs[i]>>4)-8)
	}
}

// dequantizeQ41: d, m f16, nibbles as Q4_0; w = d·q + m.
func dequantizeQ41(dst []float32, src []byte) {
	d, m, qs := half(src), half(src[2:]), src[4:]
	for i := range 16 {
		dst[i] = d*float32(qs[i]&15) + m
		dst[i+16] = d*float32(qs[i]>>4) + m
	}
}

// dequantizeQ50: d f16, 32 fifth bits, nibbles as Q4_0; w = d·(q−16).
func dequantizeQ50(dst []float32, src []byte) {
	d, qh, qs := half(src), binary.LittleEndian.Uint32(src[2:]), src[6:]
	for i := range 16 {
		dst[i] = d * float32(int(uint32(qs[i]&15)|qh>>i&1<<4)-16)
		dst[i+16] = d * float32(int(uint32(qs[i]>>4)|qh>>(i+16)&1<<4)-16)
	}
}

// dequantizeQ51: d, m f16, 32 fifth bits, nibbles as Q4_0; w = d·q + m.
func dequantizeQ51(dst []float32, src []byte) {
	d, m, qh, qs := half(src), half(src[2:]), binary.LittleEndian.Uint32(src[4:]), src[8:]
	for i := range 16 {
		dst[i] = d*float32(uint32(qs[i]&15)|qh>>i&1<<4) + m
		dst[i+16] = d*float32(uint32(qs[i]>>4)|qh>>(i+16)&1<<4) + m
	}
}

// dequantizeQ80: d f16, 32 signed bytes; w = d·q.
func dequantizeQ80(dst []float32, src []byte) {
	d := half(src)
	for i, q := range src[2:34] {
		dst[i] = d * float32(int8(q))
	}
}

// scaleMin unpacks the 6-bit scale and minimum of sub-block j of 8 from the 12
// bytes of a Q4_K or Q5_K block.
func scaleMin(j int, s []byte) (scale, minimum uint8) {
	if j < 4 {
		return s[j] & 63, s[j+4] & 63
	}
	return s[j+4]&15 | s[j-4]>>6<<4, s[j+4]>>4 | s[j]>>6<<4
}

// dequantizeQ4K: d, dmin f16, 12 bytes of scales, 128 bytes of nibbles; each 32
// bytes hold sub-block 2i low and 2i+1 high; w = d·scale·q − dmin·min.
func dequantizeQ4K(dst []float32, src []byte) {
	d, dmin, scales, qs := half(src), half(src[2:]), src[4:16], src[16:144]
	for j := range 8 {
		sc, mn := scaleMin(j, scales)
		ds, m := d*float32(sc), dmin*float32(mn)
		for i := range 32 {
			dst[j*32+i] = ds*float32(qs[j/2*32+i]>>(j%2*4)&15) - m
		}
	}
}

// dequantizeQ5K: as Q4_K, with 32 bytes before the nibbles whose bit j is the
// fifth bit of sub-block j.
func dequantizeQ5K(dst []float32, src []byte) {
	d, dmin, scales, qh, qs := half(src), half(src[2:]), src[4:16], src[16:48], src[48:176]
	for j := range 8 {
		sc, mn := scaleMin(j, scales)
		ds, m := d*float32(sc), dmin*float32(mn)
		for i := range 32 {
			dst[j*32+i] = ds*float32(qs[j/2*32+i]>>(j%2*4)&15|qh[i]>>j&1<<4) - m
		}
	}
}

// dequantizeQ6K: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16
// signed scales of 16 values, d f16; w = d·scale·(q−32).
func dequantizeQ6K(dst []float32, src []byte) {
	d := half(src[208:])
	for i := range 256 {
		dst[i] = d * float32(int8(src[192+i/16])) * float32(int(codeQ6K(src, i))-32)
	}
}

// codeQ6K is the 6-bit code of value i of a Q6_K block: each half of 128
// values has its nibbles in 64 bytes and its high pairs in 32.
func codeQ6K(src []byte, i int) uint8 {
	half, quarter, at := i/128, i%128/32, i%32
	low := src[half*64+quarter%2*32+at] >> (quarter / 2 * 4) & 15
	high := src[128+half*32+at] >> (quarter * 2) & 3
	return low | high<<4
}
