package lesskernels

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
)

// maxHeader is the format's own bound on the JSON header.
const maxHeader = 100 << 20

// ErrSafetensors is wrapped by every refusal of a malformed safetensors file.
var ErrSafetensors = errors.New("malformed safetensors")

// dtypeBits are the storage types of the format.
var dtypeBits = map[string]uint64{
	"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8,
	"I16": 16, "U16": 16, "F16": 16, "BF16": 16,
	"I32": 32, "U32": 32, "F32": 32,
	"I64": 64, "U64": 64, "F64": 64,
}

// floats are the storage types that Bytes reads.
var floats = map[string]DType{"F32": F32, "F16": F16, "BF16": BF16}

// Tensor describes one tensor of a file; its bytes stay there until read.
type Tensor struct {
	DType string
	Shape []int // row-major: the last dimension is the fastest
	begin int64 // bytes into the file
	size  int64
}

// Safetensors is an opened file in the format of
// github.com/huggingface/safetensors: a length, a JSON header that places
// every tensor, then the tensors back to back.
type Safetensors struct {
	r        io.ReaderAt
	tensors  map[string]Tensor
	Metadata map[string]string
}

// ReadSafetensors reads and checks the header of a file of size bytes. Every
// tensor is known to lie inside the file, to overlap no other, to leave no
// gap and to have the bytes that its shape and type need.
func ReadSafetensors(r io.ReaderAt, size int64) (*Safetensors, error) {
	var prefix [8]byte
	if size < int64(len(prefix)) {
		return nil, fmt.Errorf("%w: %d bytes are too few for a header", ErrSafetensors, size)
	}
	if _, err := r.ReadAt(prefix[:], 0); err != nil {
		return nil, fmt.Errorf("read the header's length: %w", err)
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	if n > maxHeader || n > uint64(size-8) {
		return nil, fmt.Errorf("%w: a header of %d bytes in a file of %d", ErrSafetensors, n, size)
	}
	header := make([]byte, n)
	if _, err := r.ReadAt(header, 8); err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	base := 8 + int64(n)
	tensors, metadata, err := parseHeader(header, base, size-base)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSafetensors, err)
	}
	return &Safetensors{r, tensors, metadata}, nil
}

// entry is one tensor as the header writes it.
type entry struct {
	DType   string    `json:"dtype"`
	Shape   []uint64  `json:"shape"`
	Offsets [2]uint64 `json:"data_offsets"`
}

// parseHeader decodes the header of a file with data bytes of tensors, which
// start at base.
func parseHeader(header []byte, base, data int64) (map[string]Tensor, map[string]string, error) {
	d := json.NewDecoder(bytes.NewReader(header))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errors.New("the header is not a JSON object")
	}
	tensors := make(map[string]Tensor)
	var metadata map[string]string
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, nil, err
		}
		name := key.(string)
		if name == "__metadata__" {
			if metadata != nil {
				return nil, nil, errors.New("two __metadata__")
			}
			metadata = map[string]string{}
			if err := d.Decode(&metadata); err != nil {
				return nil, nil, fmt.Errorf("__metadata__: %w", err)
			}
			continue
		}
		if _, ok := tensors[name]; ok {
			return nil, nil, fmt.Errorf("tensor %q is there twice", name)
		}
		var e entry
		if err := d.Decode(&e); err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		if tensors[name], err = e.place(base, data); err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", name, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, nil, errors.New("more than one value in the header")
	}
	return tensors, metadata, checkCover(tensors, base, data)
}

// place checks one entry by itself: known type, a size that does not overflow
// and equals its span, a span inside the data.
func (e entry) place(base, data int64) (Tensor, error) {
	width, ok := dtypeBits[e.DType]
	if !ok {
		return Tensor{}, fmt.Errorf("unknown type %q", e.DType)
	}
	begin, end := e.Offsets[0], e.Offsets[1]
	if begin > end || end > uint64(data) {
		return Tensor{}, fmt.Errorf("offsets %d to %d in %d bytes of data", begin, end, data)
	}
	size, shape := width/8, make([]int, len(e.Shape))
	for i, dim := range e.Shape {
		hi, lo := bits.Mul64(size, dim)
		if hi != 0 || dim > math.MaxInt {
			return Tensor{}, fmt.Errorf("shape %v overflows", e.Shape)
		}
		size, shape[i] = lo, int(dim)
	}
	if size != end-begin {
		return Tensor{}, fmt.Errorf("%s %v needs %d bytes, has %d", e.DType, e.Shape, size, end-begin)
	}
	return Tensor{e.DType, shape, base + int64(begin), int64(size)}, nil
}

// checkCover refuses overlaps, gaps and bytes after the last tensor.
func checkCover(tensors map[string]Tensor, base, data int64) error {
	all := make([]Tensor, 0, len(tensors))
	for _, t := range tensors {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b Tensor) int {
		if a.begin != b.begin {
			return cmp.Compare(a.begin, b.begin)
		}
		return cmp.Compare(a.size, b.size) // an empty tensor stands before its neighbour
	})
	next := base
	for _, t := range all {
		if t.begin != next {
			return fmt.Errorf("tensors overlap or leave a gap at byte %d", min(t.begin, next))
		}
		next += t.size
	}
	if next != base+data {
		return fmt.Errorf("%d bytes after the last tensor", base+data-next)
	}
	return nil
}

// Tensor tells a tensor's type and shape.
func (s *Safetensors) Tensor(name string) (Tensor, bool) {
	t, ok := s.tensors[name]
	return t, ok
}

// Bytes reads a float tensor that must have the given shape, as stored.
func (s *Safetensors) Bytes(name string, shape ...int) (DType, []byte, error) {
	t, ok := s.tensors[name]
	if !ok {
		return 0, nil, fmt.Errorf("tensor %q is missing", name)
	}
	dtype, ok := floats[t.DType]
	if !ok {
		return 0, nil, fmt.Errorf("tensor %q is %s: only F32, F16 and BF16 are read", name, t.DType)
	}
	if !slices.Equal(t.Shape, shape) {
		return 0, nil, fmt.Errorf("tensor %q has shape %v, %v is needed", name, t.Shape, shape)
	}
	data := make([]byte, t.size)
	if _, err := s.r.ReadAt(data, t.begin); err != nil {
		return 0, nil, fmt.Errorf("read tensor %q: %w", name, err)
	}
	return dtype, data, nil
}
