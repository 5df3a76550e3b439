package gguf

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"lessrag/lesskernels"
)

const (
	defaultAlignment = 32
	maxAlignment     = 1 << 20
	maxDims          = 4
	maxName          = 65535 // bytes of a key or of a tensor's name

	// The least that one entry takes in the file: an entry count above
	// (bytes left) / (this) is refused before anything is allocated for it.
	minKeyValue   = 8 + 1 + 4 + 1      // name length, name, kind, value
	minTensorInfo = 8 + 1 + 4 + 8 + 12 // name length, name, dimensions, one of them, type and offset
)

// FormatError says which part of a file is malformed, and how.
type FormatError struct {
	Where   string // such as `key "general.alignment"` or `tensor "output.weight"`
	Problem string
}

func (e *FormatError) Error() string { return "gguf: " + e.Where + ": " + e.Problem }

func malformed(where, format string, args ...any) error {
	return &FormatError{where, fmt.Sprintf(format, args...)}
}

// Parse reads a GGUF file from memory; the File keeps data and points into it.
// A malformed file gives a *FormatError.
func Parse(data []byte) (*File, error) {
	r := &reader{rest: data}
	f := &File{data: data}
	tensors, pairs, err := f.readHeader(r)
	if err != nil {
		return nil, err
	}
	if err := f.readMetadata(r, pairs); err != nil {
		return nil, err
	}
	offsets, err := f.readTensorInfos(r, tensors)
	if err != nil {
		return nil, err
	}
	alignment, err := f.alignment()
	if err != nil {
		return nil, err
	}
	start := (len(data) - len(r.rest) + alignment - 1) / alignment * alignment
	if err := f.placeTensors(offsets, data[min(start, len(data)):], alignment); err != nil {
		return nil, err
	}
	return f, nil
}

// readHeader reads magic, version and the two counts.
func (f *File) readHeader(r *reader) (tensors, pairs int, err error) {
	magic, ok := r.take(4)
	if !ok || string(magic) != "GGUF" {
		return 0, 0, malformed("header", "not a GGUF file: it does not begin with \"GGUF\"")
	}
	version, ok := r.uint32()
	switch {
	case !ok:
		return 0, 0, malformed("header", "ends before the version")
	case bits.ReverseBytes32(version) <= 3 && version != 0:
		return 0, 0, malformed("header", "the file is big-endian; only little-endian files are read")
	case version != 2 && version != 3:
		return 0, 0, malformed("header", "version %d; versions 2 and 3 are read", version)
	}
	f.Version = int(version)
	nTensors, ok1 := r.uint64()
	nPairs, ok2 := r.uint64()
	if !ok1 || !ok2 {
		return 0, 0, malformed("header", "ends before the counts")
	}
	if limit := uint64(len(r.rest) / minTensorInfo); nTensors > limit {
		return 0, 0, malformed("header", "%d tensors, but the file has room for %d at most", nTensors, limit)
	}
	if limit := uint64(len(r.rest) / minKeyValue); nPairs > limit {
		return 0, 0, malformed("header", "%d metadata keys, but the file has room for %d at most", nPairs, limit)
	}
	return int(nTensors), int(nPairs), nil
}

// firstRoom is how many entries are made room for on the header's word alone;
// more grow with what is really there.
const firstRoom = 1 << 12

// readMetadata reads and checks every key and value, decoding none.
func (f *File) readMetadata(r *reader, pairs int) error {
	f.values = make(map[string]value, min(pairs, firstRoom))
	for i := range pairs {
		key, err := r.name(fmt.Sprintf("key number %d", i))
		if err != nil {
			return err
		}
		where := fmt.Sprintf("key %q", key)
		if _, twice := f.values[key]; twice {
			return malformed(where, "appears twice")
		}
		v, err := r.value(where)
		if err != nil {
			return err
		}
		f.values[key] = v
	}
	return nil
}

// readTensorInfos reads names, shapes and types; the tensors' data follow when
// all are known. The offsets returned are those of the file, unchecked.
func (f *File) readTensorInfos(r *reader, tensors int) ([]uint64, error) {
	f.Tensors = make([]Tensor, 0, min(tensors, firstRoom))
	f.byName = make(map[string]int, min(tensors, firstRoom))
	offsets := make([]uint64, 0, min(tensors, firstRoom))
	for i := range tensors {
		f.Tensors = append(f.Tensors, Tensor{})
		t := &f.Tensors[i]
		var err error
		if t.Name, err = r.name(fmt.Sprintf("tensor number %d", i)); err != nil {
			return nil, err
		}
		where := fmt.Sprintf("tensor %q", t.Name)
		if _, twice := f.byName[t.Name]; twice {
			return nil, malformed(where, "appears twice")
		}
		f.byName[t.Name] = i
		if t.Dims, err = r.dims(where); err != nil {
			return nil, err
		}
		dtype, ok1 := r.uint32()
		offset, ok2 := r.uint64()
		if !ok1 || !ok2 {
			return nil, malformed(where, "ends before its type and offset")
		}
		t.Type = lesskernels.DType(dtype)
		offsets = append(offsets, offset)
	}
	return offsets, nil
}

// alignment is that of tensor data, from general.alignment.
func (f *File) alignment() (int, error) {
	const key = "general.alignment"
	if _, ok := f.values[key]; !ok {
		return defaultAlignment, nil
	}
	n, ok := f.Int(key)
	if !ok || n <= 0 || n > maxAlignment || n&(n-1) != 0 {
		return 0, malformed(fmt.Sprintf("key %q", key), "must be a power of two of at most %d", maxAlignment)
	}
	return n, nil
}

// placeTensors gives every tensor its bytes of the data section, and refuses
// tensors that leave it or overlap.
func (f *File) placeTensors(offsets []uint64, section []byte, alignment int) error {
	order := make([]int, len(offsets))
	for i := range f.Tensors {
		order[i] = i
		t := &f.Tensors[i]
		where := fmt.Sprintf("tensor %q", t.Name)
		size, err := dataSize(where, t.Type, t.Dims)
		if err != nil {
			return err
		}
		offset, length := offsets[i], uint64(len(section))
		if offset%uint64(alignment) != 0 {
			return malformed(where, "offset %d is not a multiple of the alignment %d", offset, alignment)
		}
		if offset > length || uint64(size) > length-offset {
			return malformed(where, "%d bytes at offset %d leave the data section of %d bytes: the file is cut short or damaged", size, offset, length)
		}
		end := int(offset) + int(size)
		t.Data = section[offset:end:end]
	}
	slices.SortFunc(order, func(a, b int) int {
		if offsets[a] < offsets[b] {
			return -1
		}
		return int(min(offsets[a]-offsets[b], 1))
	})
	for i := 1; i < len(order); i++ {
		before, after := order[i-1], order[i]
		if offsets[before]+uint64(len(f.Tensors[before].Data)) > offsets[after] {
			return malformed(fmt.Sprintf("tensor %q", f.Tensors[after].Name), "overlaps tensor %q", f.Tensors[before].Name)
		}
	}
	return nil
}

// dataSize is the bytes of a tensor's blocks. dims are positive.
func dataSize(where string, t lesskernels.DType, dims []int) (int64, error) {
	elements, blockBytes, ok := t.BlockSize()
	if !ok {
		return 0, malformed(where, "storage %s is not one that is read", t)
	}
	if int64(dims[0])%elements != 0 {
		return 0, malformed(where, "rows of %d values are not whole %s blocks of %d", dims[0], t, elements)
	}
	size := uint64(blockBytes)
	for i, d := range dims {
		n := uint64(d)
		if i == 0 {
			n /= uint64(elements)
		}
		hi, lo := bits.Mul64(size, n)
		if hi != 0 || lo > math.MaxInt64 {
			return 0, malformed(where, "dimensions %v overflow", dims)
		}
		size = lo
	}
	return int64(size), nil
}
