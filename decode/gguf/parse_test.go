package gguf_test

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"lessrag/decode/gguf"
	"lessrag/decode/gguf/gguftest"
	"lessrag/lesskernels"
)

func words(values ...uint64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// array is the raw bytes of an array's kind and count, and what follows.
func array(kind uint32, count uint64, rest ...byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, kind)
	return append(binary.LittleEndian.AppendUint64(b, count), rest...)
}

func oneKey(name string, value any) []byte {
	return gguftest.File{Keys: []gguftest.Key{{Name: name, Value: value}}}.Bytes()
}

func tensors(list ...gguftest.Tensor) []byte { return gguftest.File{Tensors: list}.Bytes() }

func oneTensor(dtype lesskernels.DType, dims ...uint64) []byte {
	return tensors(gguftest.Tensor{Name: "w", Type: dtype, Dims: dims, Data: make([]byte, 64)})
}

func at(offset uint64) *uint64 { return &offset }

// patched overwrites b at offset.
func patched(b []byte, offset int, with []byte) []byte {
	copy(b[offset:], with)
	return b
}

// Every crafted file is refused, and the error names the place and the fault.
func TestParseRefuses(t *testing.T) {
	f32 := gguftest.Tensor{Name: "w", Type: lesskernels.F32, Dims: []uint64{4}, Data: make([]byte, 16)}
	other, misplaced, overlapping := f32, f32, f32
	other.Name, overlapping.Name = "v", "v"
	misplaced.Offset, overlapping.Offset = at(8), at(0)
	beyond, wrapping := f32, f32
	beyond.Offset, wrapping.Offset = at(1<<40), at(math.MaxUint64-31)
	const count = 8 // where the header's counts begin

	for _, c := range []struct {
		name  string
		data  []byte
		where string // in the error
		fault string
	}{
		{"empty", nil, "header", "not a GGUF file"},
		{"other magic", []byte("GGML\x03\x00\x00\x00"), "header", "not a GGUF file"},
		{"no version", []byte("GGUF\x03"), "header", "before the version"},
		{"version 1", gguftest.File{Version: 1}.Bytes(), "header", "version 1"},
		{"version 4", gguftest.File{Version: 4}.Bytes(), "header", "version 4"},
		{"big-endian", gguftest.File{Version: 3 << 24}.Bytes(), "header", "big-endian"},
		{"no counts", []byte("GGUF\x03\x00\x00\x00\x00"), "header", "before the counts"},
		{"tensor count", patched(small().Bytes(), count, words(math.MaxUint64)), "header", "tensors, but the file has room"},
		{"key count", patched(small().Bytes(), count+8, words(math.MaxUint64)), "header", "metadata keys, but the file has room"},
		{"key count larger than keys", patched(oneKey("a", uint8(1)), count+8, words(2)), "key number 1", "name has 0 bytes"},
		{"key length", patched(small().Bytes(), count+16, words(math.MaxUint64)), "key number 0", "only"},
		{"key length overflows", patched(small().Bytes(), count+16, words(math.MaxInt64)), "key number 0", "only"},
		{"empty key", oneKey("", uint8(1)), "key number 0", "name has 0 bytes"},
		{"long key", oneKey(strings.Repeat("k", 65536), uint8(1)), "key number 0", "name has 65536 bytes"},
		{"duplicate key", gguftest.File{Keys: []gguftest.Key{{Name: "a", Value: uint8(1)}, {Name: "a", Value: uint8(1)}}}.Bytes(), `key "a"`, "twice"},
		{"unknown kind", oneKey("a", gguftest.Raw{Kind: 13, Bytes: words(0)}), `key "a"`, "unknown kind 13"},
		{"boolean", oneKey("a", gguftest.Raw{Kind: 7, Bytes: []byte{2}}), `key "a"`, "neither 0 nor 1"},
		{"string length", oneKey("a", gguftest.Raw{Kind: 8, Bytes: words(1 << 60)}), `key "a"`, "only"},
		{"array of arrays", oneKey("a", gguftest.Raw{Kind: 9, Bytes: array(9, 1, array(0, 1, 0)...)}), `key "a"`, "array of arrays"},
		{"array of unknown kind", oneKey("a", gguftest.Raw{Kind: 9, Bytes: array(99, 1<<62)}), `key "a"`, "unknown kind 99"},
		{"array count", oneKey("a", gguftest.Raw{Kind: 9, Bytes: array(0, math.MaxUint64)}), `key "a"`, "array of 18446744073709551615"},
		{"array count times width", oneKey("a", gguftest.Raw{Kind: 9, Bytes: array(10, 1<<61)}), `key "a"`, "array of"},
		{"array of strings", oneKey("a", gguftest.Raw{Kind: 9, Bytes: array(8, 1<<61)}), `key "a"`, "array of"},
		{"string in array", oneKey("a", gguftest.Raw{Kind: 9, Bytes: array(8, 1, words(1<<63)...)}), `key "a"`, "only"},
		{"boolean in array", oneKey("a", gguftest.Raw{Kind: 9, Bytes: array(7, 3, 0, 1, 2)}), `key "a"`, "neither 0 nor 1"},
		{"alignment zero", oneKey("general.alignment", uint32(0)), `key "general.alignment"`, "power of two"},
		{"alignment odd", oneKey("general.alignment", uint32(48)), `key "general.alignment"`, "power of two"},
		{"alignment negative", oneKey("general.alignment", int32(-32)), `key "general.alignment"`, "power of two"},
		{"alignment huge", oneKey("general.alignment", uint64(1<<62)), `key "general.alignment"`, "power of two"},
		{"alignment text", oneKey("general.alignment", "32"), `key "general.alignment"`, "power of two"},
		{"duplicate tensor", tensors(f32, f32), `tensor "w"`, "twice"},
		{"unnamed tensor", tensors(gguftest.Tensor{Dims: []uint64{1}, Data: make([]byte, 4)}), "tensor number 0", "name has 0 bytes"},
		{"no dimensions", oneTensor(lesskernels.F32), `tensor "w"`, "0 dimensions"},
		{"five dimensions", oneTensor(lesskernels.F32, 1, 1, 1, 1, 1), `tensor "w"`, "5 dimensions"},
		{"dimension zero", oneTensor(lesskernels.F32, 4, 0), `tensor "w"`, "dimension 1 is 0"},
		{"dimension negative", oneTensor(lesskernels.F32, math.MaxUint64), `tensor "w"`, "dimension 0 is"},
		{"dimensions overflow", oneTensor(lesskernels.F32, 1<<32, 1<<32), `tensor "w"`, "overflow"},
		{"dimensions overflow to little", oneTensor(lesskernels.Q4_1, 1<<62, 4, 5, 16), `tensor "w"`, "overflow"},
		{"half a block", oneTensor(lesskernels.Q4_1, 33), `tensor "w"`, "whole Q4_1 blocks"},
		{"unknown storage", oneTensor(77, 4), `tensor "w"`, "storage type 77"},
		{"larger than the file", oneTensor(lesskernels.F32, 4096), `tensor "w"`, "leave the data section"},
		{"offset beyond", tensors(beyond), `tensor "w"`, "leave the data section"},
		{"offset wraps", tensors(wrapping), `tensor "w"`, "leave the data section"},
		{"offset unaligned", tensors(misplaced), `tensor "w"`, "multiple of the alignment"},
		{"overlap", tensors(f32, overlapping), "tensor", "overlaps"},
		{"overlap backwards", tensors(other, gguftest.Tensor{Name: "w", Type: lesskernels.F32, Dims: []uint64{9}, Data: make([]byte, 36), Offset: at(0)}), "tensor", "overlaps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := gguf.Parse(c.data)
			var malformed *gguf.FormatError
			if !errors.As(err, &malformed) {
				t.Fatalf("got %v, want a *FormatError", err)
			}
			if !strings.Contains(malformed.Where, c.where) || !strings.Contains(malformed.Problem, c.fault) {
				t.Errorf("got %q, want it to name %s and say %q", err, c.where, c.fault)
			}
		})
	}
}

// However a file is cut short, it is refused.
func TestParseRefusesTruncation(t *testing.T) {
	whole := small().Bytes()
	last := small().Tensors[len(small().Tensors)-1]
	end := len(whole) - gguftest.Alignment + len(last.Data) // of the last tensor
	for n := range end {
		if _, err := gguf.Parse(whole[:n]); err == nil {
			t.Fatalf("accepted the first %d of %d bytes", n, end)
		}
	}
	if _, err := gguf.Parse(whole[:end]); err != nil {
		t.Errorf("refused a file that lacks only its last padding: %v", err)
	}
}

// Parse never panics, and what it accepts can be read in full.
func FuzzParse(f *testing.F) {
	whole := small().Bytes()
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(oneTensor(lesskernels.Q4_1, 32, 2))
	f.Add(oneKey("general.alignment", uint32(64)))
	f.Add(patched(small().Bytes(), 8, words(3, 1<<20)))
	f.Add(gguftest.File{Version: 2}.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := gguf.Parse(data)
		if err != nil {
			if malformed := new(gguf.FormatError); !errors.As(err, &malformed) {
				t.Fatalf("an error of another type: %v", err)
			}
			return
		}
		total := 0
		for _, tensor := range file.Tensors {
			total += len(tensor.Data)
		}
		if total > len(data) {
			t.Fatalf("tensors of %d bytes in a file of %d", total, len(data))
		}
		for _, key := range file.Keys() {
			file.String(key)
			file.Int(key)
			file.Float(key)
			file.Bool(key)
			file.Strings(key)
			file.Ints(key)
			file.Floats(key)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
