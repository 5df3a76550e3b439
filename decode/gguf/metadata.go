package gguf

import (
	"encoding/binary"
	"math"
)

// kind is the type of a metadata value, numbered as in the file.
type kind uint32

const (
	kindUint8 kind = iota
	kindInt8
	kindUint16
	kindInt16
	kindUint32
	kindInt32
	kindFloat32
	kindBool
	kindString
	kindArray
	kindUint64
	kindInt64
	kindFloat64
)

// width is the bytes of one scalar of a kind, or for a string the least that
// one can take (its length field); 0 for an array or an unknown kind.
func (k kind) width() int {
	switch k {
	case kindUint8, kindInt8, kindBool:
		return 1
	case kindUint16, kindInt16:
		return 2
	case kindUint32, kindInt32, kindFloat32:
		return 4
	case kindUint64, kindInt64, kindFloat64, kindString:
		return 8
	}
	return 0
}

// value is one checked metadata value, still in its bytes. For a string raw is
// its text; for an array the elements one after the other, each string with
// its length before it.
type value struct {
	kind  kind
	array bool // kind is then the elements' kind
	count int  // elements, 1 for a scalar
	raw   []byte
}

// String returns the text of a string value.
func (f *File) String(key string) (string, bool) {
	v, ok := f.values[key]
	if !ok || v.array || v.kind != kindString {
		return "", false
	}
	return string(v.raw), true
}

// Int returns a value of any integer kind; ok is false too if it does not fit.
func (f *File) Int(key string) (int, bool) {
	v, ok := f.values[key]
	if !ok || v.array {
		return 0, false
	}
	return v.int(0)
}

// Float returns a float value, or an integer one as a float.
func (f *File) Float(key string) (float64, bool) {
	v, ok := f.values[key]
	if !ok || v.array {
		return 0, false
	}
	return v.float(0)
}

// Bool returns a boolean value.
func (f *File) Bool(key string) (value, ok bool) {
	v, ok := f.values[key]
	if !ok || v.array || v.kind != kindBool {
		return false, false
	}
	return v.raw[0] == 1, true
}

// Strings returns an array of strings.
func (f *File) Strings(key string) ([]string, bool) {
	v, ok := f.values[key]
	if !ok || !v.array || v.kind != kindString {
		return nil, false
	}
	out := make([]string, v.count)
	raw := v.raw
	for i := range out {
		n := binary.LittleEndian.Uint64(raw)
		out[i] = string(raw[8 : 8+n])
		raw = raw[8+n:]
	}
	return out, true
}

// Ints returns an array of any integer kind; ok is false if one does not fit.
func (f *File) Ints(key string) ([]int, bool) {
	return array(f.values[key], value.int)
}

// Floats returns an array of floats, or of integers as floats.
func (f *File) Floats(key string) ([]float64, bool) {
	return array(f.values[key], value.float)
}

// array reads every element of v with get. A key that is missing gives the
// zero value, which is no array.
func array[T any](v value, get func(value, int) (T, bool)) ([]T, bool) {
	if !v.array || v.kind == kindString {
		return nil, false
	}
	out := make([]T, v.count)
	for i := range out {
		var ok bool
		if out[i], ok = get(v, i); !ok {
			return nil, false
		}
	}
	return out, true
}

// int reads element i of an integer value.
func (v value) int(i int) (int, bool) {
	raw := v.raw[i*v.kind.width():]
	var n int64
	switch v.kind {
	case kindUint8:
		n = int64(raw[0])
	case kindInt8:
		n = int64(int8(raw[0]))
	case kindUint16:
		n = int64(binary.LittleEndian.Uint16(raw))
	case kindInt16:
		n = int64(int16(binary.LittleEndian.Uint16(raw)))
	case kindUint32:
		n = int64(binary.LittleEndian.Uint32(raw))
	case kindInt32:
		n = int64(int32(binary.LittleEndian.Uint32(raw)))
	case kindUint64:
		u := binary.LittleEndian.Uint64(raw)
		if u > math.MaxInt64 {
			return 0, false
		}
		n = int64(u)
	case kindInt64:
		n = int64(binary.LittleEndian.Uint64(raw))
	default:
		return 0, false
	}
	return int(n), int64(int(n)) == n
}

// float reads element i of a numeric value.
func (v value) float(i int) (float64, bool) {
	raw := v.raw[i*v.kind.width():]
	switch v.kind {
	case kindFloat32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(raw))), true
	case kindFloat64:
		return math.Float64frombits(binary.LittleEndian.Uint64(raw)), true
	}
	n, ok := v.int(i)
	return float64(n), ok
}
