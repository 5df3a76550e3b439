// Package gguf reads GGUF files, versions 2 and 3, little-endian, as specified
// in https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
//
// A file may come from anyone: every count, length, offset and product of
// dimensions is checked against what the file can hold before it is used, and
// nothing is allocated for more than that. Metadata and tensors are read where
// they lie, in a read-only mapping of the file.
package gguf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"lessrag/lesskernels"
)

// ErrClosed is what Hash returns after Close.
var ErrClosed = errors.New("gguf: file is closed")

// Tensor is one named array of the file.
type Tensor struct {
	Name string
	Type lesskernels.DType
	Dims []int  // ggml order: Dims[0] varies fastest, so it is the number of columns
	Data []byte // whole blocks, in the mapping: valid until Close
}

// File is a parsed GGUF file. It is safe for concurrent reading; Close must
// come after the last use of it and of its tensors' Data.
type File struct {
	Version int
	Tensors []Tensor // in the file's order

	data    []byte
	values  map[string]value
	byName  map[string]int
	closing sync.Once
	unmap   func() error

	hashing sync.Once
	hash    string
}

// Open maps the file at path and parses it. The mapping follows the file, so
// the file must not be shortened while it is open.
func Open(path string) (*File, error) {
	data, unmap, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: open %s: %w", path, err)
	}
	f, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(err, unmap()))
	}
	f.unmap = unmap
	return f, nil
}

// Close releases the mapping. Metadata and tensors are gone afterwards; a
// second Close does nothing.
func (f *File) Close() error {
	var err error
	f.closing.Do(func() {
		f.data, f.values, f.byName, f.Tensors = nil, nil, nil, nil
		if f.unmap != nil {
			err = f.unmap()
		}
	})
	return err
}

// Tensor looks a tensor up by its name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.Tensors[i], true
}

// Keys lists the metadata keys, sorted.
func (f *File) Keys() []string { return slices.Sorted(maps.Keys(f.values)) }

// Size is the length of the whole file in bytes.
func (f *File) Size() int64 { return int64(len(f.data)) }

// Hash is the SHA-256 of the whole file in hexadecimal, computed once.
func (f *File) Hash() (string, error) {
	f.hashing.Do(func() {
		if f.data == nil {
			return
		}
		sum := sha256.Sum256(f.data)
		f.hash = hex.EncodeToString(sum[:])
	})
	if f.hash == "" {
		return "", ErrClosed
	}
	return f.hash, nil
}
