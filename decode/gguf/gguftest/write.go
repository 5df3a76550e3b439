// Package gguftest makes small GGUF files for tests, well-formed and not.
package gguftest

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"lessrag/lesskernels"
)

// Alignment of the tensor data in the files made here.
const Alignment = 32

// File is what to write. The zero Version means 3.
type File struct {
	Version uint32
	Keys    []Key
	Tensors []Tensor
}

// Key is one metadata pair. Value is a fixed-size number, bool or string, a
// slice of one of these, or Raw.
type Key struct {
	Name  string
	Value any
}

// Raw is a value written as it stands: its kind, then its bytes.
type Raw struct {
	Kind  uint32
	Bytes []byte
}

// Tensor is one tensor; Offset, when not nil, is written in place of the true one.
type Tensor struct {
	Name   string
	Type   lesskernels.DType
	Dims   []uint64
	Data   []byte
	Offset *uint64
}

// Bytes writes the file.
func (f File) Bytes() []byte {
	version := f.Version
	if version == 0 {
		version = 3
	}
	var b bytes.Buffer
	b.WriteString("GGUF")
	put(&b, version, uint64(len(f.Tensors)), uint64(len(f.Keys)))
	for _, k := range f.Keys {
		putString(&b, k.Name)
		putValue(&b, k.Value)
	}
	offset := uint64(0)
	for _, t := range f.Tensors {
		putString(&b, t.Name)
		put(&b, uint32(len(t.Dims)), t.Dims, uint32(t.Type))
		if t.Offset != nil {
			put(&b, *t.Offset)
		} else {
			put(&b, offset)
		}
		offset += uint64(len(t.Data)+Alignment-1) / Alignment * Alignment
	}
	for _, t := range f.Tensors {
		pad(&b)
		b.Write(t.Data)
	}
	pad(&b)
	return b.Bytes()
}

func pad(b *bytes.Buffer) { b.Write(make([]byte, -b.Len()&(Alignment-1))) }

func put(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			panic(err) // a value that has no fixed size: the test is wrong
		}
	}
}

func putString(b *bytes.Buffer, s string) {
	put(b, uint64(len(s)))
	b.WriteString(s)
}

func putValue(b *bytes.Buffer, v any) {
	const array = 9
	switch v := v.(type) {
	case Raw:
		put(b, v.Kind, v.Bytes)
	case string:
		put(b, kindOf(v))
		putString(b, v)
	case []string:
		put(b, uint32(array), kindOf(""), uint64(len(v)))
		for _, s := range v {
			putString(b, s)
		}
	case []int32:
		put(b, uint32(array), kindOf(int32(0)), uint64(len(v)), v)
	case []uint64:
		put(b, uint32(array), kindOf(uint64(0)), uint64(len(v)), v)
	case []float32:
		put(b, uint32(array), kindOf(float32(0)), uint64(len(v)), v)
	default:
		put(b, kindOf(v), v)
	}
}

// kindOf is the number of a value's type in the format.
func kindOf(v any) uint32 {
	switch v.(type) {
	case uint8:
		return 0
	case int8:
		return 1
	case uint16:
		return 2
	case int16:
		return 3
	case uint32:
		return 4
	case int32:
		return 5
	case float32:
		return 6
	case bool:
		return 7
	case string:
		return 8
	case uint64:
		return 10
	case int64:
		return 11
	case float64:
		return 12
	}
	panic(fmt.Sprintf("gguftest: no kind for %T", v))
}
