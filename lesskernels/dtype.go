// Package lesskernels is the arithmetic of the decoder: attention partials and
// their merge, the low-rank state of LESS (arXiv 2402.09398) and its feature
// maps, as slow, obvious Go. lesskernels/cpu holds the fast twins.
package lesskernels

import "fmt"

// DType is a tensor's storage type, numbered as in GGUF v3.
type DType uint32

// The storage types that the decoder reads.
const (
	F32  DType = 0
	F16  DType = 1
	Q4_0 DType = 2
	Q4_1 DType = 3
	Q5_0 DType = 6
	Q5_1 DType = 7
	Q8_0 DType = 8
	Q4_K DType = 12
	Q5_K DType = 13
	Q6_K DType = 14
	BF16 DType = 30
)

// block is a storage type's unit: elements values in bytes bytes.
type block struct {
	name            string
	elements, bytes int64
}

var blocks = map[DType]block{
	F32:  {"F32", 1, 4},
	F16:  {"F16", 1, 2},
	BF16: {"BF16", 1, 2},
	Q4_0: {"Q4_0", 32, 18},
	Q4_1: {"Q4_1", 32, 20},
	Q5_0: {"Q5_0", 32, 22},
	Q5_1: {"Q5_1", 32, 24},
	Q8_0: {"Q8_0", 32, 34},
	Q4_K: {"Q4_K", 256, 144},
	Q5_K: {"Q5_K", 256, 176},
	Q6_K: {"Q6_K", 256, 210},
}

// String is the type's usual name, such as "Q4_1".
func (t DType) String() string {
	if b, ok := blocks[t]; ok {
		return b.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// BlockSize tells how many values one block holds, and in how many bytes;
// ok is false for a type that the decoder does not read.
func (t DType) BlockSize() (elements, bytes int64, ok bool) {
	b, ok := blocks[t]
	return b.elements, b.bytes, ok
}
