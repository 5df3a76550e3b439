package lesskernels

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
)

// namedTensor is float32 values on their way to a file.
type namedTensor struct {
	name   string
	dtype  DType // F32 or BF16
	shape  []int
	values []float32
}

// bytes are the values as the file stores them; BF16 rounds to even.
func (t namedTensor) bytes() []byte {
	b := make([]byte, 0, 4*len(t.values))
	for _, x := range t.values {
		if t.dtype == BF16 {
			bits := math.Float32bits(x)
			b = binary.LittleEndian.AppendUint16(b, uint16((bits+0x7fff+bits>>16&1)>>16))
		} else {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
	}
	return b
}

// writeSafetensors writes tensors one after the other behind their header,
// which is padded so that the first one is aligned to 8 bytes.
func writeSafetensors(w io.Writer, metadata map[string]string, tensors []namedTensor) error {
	header := map[string]any{"__metadata__": metadata}
	at := uint64(0)
	for _, t := range tensors {
		_, width, _ := t.dtype.BlockSize()
		size := uint64(width) * uint64(len(t.values))
		shape := make([]uint64, len(t.shape))
		for i, n := range t.shape {
			shape[i] = uint64(n)
		}
		header[t.name] = entry{t.dtype.String(), shape, [2]uint64{at, at + size}}
		at += size
	}
	text, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("encode the header: %w", err)
	}
	text = append(text, bytes.Repeat([]byte{' '}, -len(text)&7)...)
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text)))); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	for _, t := range tensors {
		if _, err := w.Write(t.bytes()); err != nil {
			return err
		}
	}
	return nil
}

// float32s reads an F32 or BF16 tensor that must have the given shape, all of
// whose values must be finite, or −Inf where that has a meaning.
func (s *Safetensors) float32s(name string, negInf bool, shape ...int) ([]float32, DType, error) {
	dtype, data, err := s.Bytes(name, shape...)
	if err != nil {
		return nil, dtype, err
	}
	var out []float32
	switch dtype {
	case F32:
		out = make([]float32, len(data)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	case BF16:
		out = make([]float32, len(data)/2)
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		}
	default:
		return nil, dtype, fmt.Errorf("tensor %q is %s: F32 or BF16 is needed", name, dtype)
	}
	for i, x := range out {
		if x-x != 0 && !(negInf && math.IsInf(float64(x), -1)) {
			return nil, dtype, fmt.Errorf("tensor %q: value %d is %v", name, i, x)
		}
	}
	return out, dtype, nil
}
