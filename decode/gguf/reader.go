package gguf

import (
	"encoding/binary"
	"math"
	"slices"
)

// reader walks the file; rest is what has not been read.
type reader struct{ rest []byte }

func (r *reader) take(n uint64) ([]byte, bool) {
	if n > uint64(len(r.rest)) {
		return nil, false
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b, true
}

func (r *reader) uint32() (uint32, bool) {
	b, ok := r.take(4)
	if !ok {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b), true
}

func (r *reader) uint64() (uint64, bool) {
	b, ok := r.take(8)
	if !ok {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b), true
}

// string reads a length and that many bytes.
func (r *reader) string(where string) ([]byte, error) {
	n, ok := r.uint64()
	if !ok {
		return nil, malformed(where, "ends before a string's length")
	}
	b, ok := r.take(n)
	if !ok {
		return nil, malformed(where, "a string of %d bytes, but only %d are left in the file", n, len(r.rest))
	}
	return b, nil
}

// name reads a key or a tensor's name.
func (r *reader) name(where string) (string, error) {
	b, err := r.string(where)
	if err != nil {
		return "", err
	}
	if len(b) == 0 || len(b) > maxName {
		return "", malformed(where, "its name has %d bytes; 1 to %d are allowed", len(b), maxName)
	}
	return string(b), nil
}

// dims reads the number of dimensions and each of them.
func (r *reader) dims(where string) ([]int, error) {
	n, ok := r.uint32()
	if !ok || n == 0 || n > maxDims {
		return nil, malformed(where, "%d dimensions; 1 to %d are allowed", n, maxDims)
	}
	dims := make([]int, n)
	for i := range dims {
		d, ok := r.uint64()
		if !ok {
			return nil, malformed(where, "ends before dimension %d", i)
		}
		if d == 0 || d > math.MaxInt {
			return nil, malformed(where, "dimension %d is %d", i, d)
		}
		dims[i] = int(d)
	}
	return dims, nil
}

// value reads one metadata value and checks that all of it is there.
func (r *reader) value(where string) (value, error) {
	k, ok := r.uint32()
	if !ok {
		return value{}, malformed(where, "ends before its kind")
	}
	if kind(k) == kindArray {
		return r.array(where)
	}
	return r.values(where, value{kind: kind(k), count: 1})
}

// array reads an array's element kind and count, then its elements.
func (r *reader) array(where string) (value, error) {
	k, ok1 := r.uint32()
	n, ok2 := r.uint64()
	if !ok1 || !ok2 {
		return value{}, malformed(where, "ends before its array's kind and count")
	}
	if kind(k) == kindArray {
		return value{}, malformed(where, "an array of arrays, which no model's metadata has")
	}
	if width := kind(k).width(); width > 0 && n > uint64(len(r.rest)/width) {
		return value{}, malformed(where, "an array of %d elements, but only %d bytes are left in the file", n, len(r.rest))
	}
	return r.values(where, value{kind: kind(k), array: true, count: int(n)})
}

// values reads the v.count elements of v.kind.
func (r *reader) values(where string, v value) (value, error) {
	switch {
	case v.kind.width() == 0:
		return value{}, malformed(where, "unknown kind %d", v.kind)
	case v.kind == kindString && !v.array:
		raw, err := r.string(where)
		v.raw = raw
		return v, err
	case v.kind == kindString:
		all := r.rest
		for range v.count {
			if _, err := r.string(where); err != nil {
				return value{}, err
			}
		}
		v.raw = all[:len(all)-len(r.rest)]
		return v, nil
	}
	raw, ok := r.take(uint64(v.count) * uint64(v.kind.width()))
	if !ok {
		return value{}, malformed(where, "ends before its value")
	}
	if v.kind == kindBool && slices.ContainsFunc(raw, func(b byte) bool { return b > 1 }) {
		return value{}, malformed(where, "a boolean that is neither 0 nor 1")
	}
	v.raw = raw
	return v, nil
}
