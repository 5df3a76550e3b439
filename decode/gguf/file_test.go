package gguf_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lessrag/decode/gguf"
	"lessrag/decode/gguf/gguftest"
	"lessrag/lesskernels"
)

// small has every kind of value, and tensors of odd sizes.
func small() gguftest.File {
	return gguftest.File{
		Keys: []gguftest.Key{
			{Name: "general.architecture", Value: "llama"},
			{Name: "general.alignment", Value: uint32(gguftest.Alignment)},
			{Name: "u8", Value: uint8(200)}, {Name: "i8", Value: int8(-3)},
			{Name: "u16", Value: uint16(65535)}, {Name: "i16", Value: int16(-300)},
			{Name: "u32", Value: uint32(1 << 31)}, {Name: "i32", Value: int32(-1 << 31)},
			{Name: "u64", Value: uint64(math.MaxInt64)}, {Name: "i64", Value: int64(-1 << 40)},
			{Name: "u64.huge", Value: uint64(math.MaxInt64 + 1)},
			{Name: "f32", Value: float32(0.5)}, {Name: "f64", Value: 1e-300},
			{Name: "yes", Value: true}, {Name: "no", Value: false}, {Name: "empty", Value: ""},
			{Name: "strings", Value: []string{"a", "", "häß"}},
			{Name: "ints", Value: []int32{-1, 0, 7}},
			{Name: "ints.huge", Value: []uint64{1, math.MaxUint64}},
			{Name: "floats", Value: []float32{0.25, -2}},
			{Name: "none", Value: []string{}},
		},
		Tensors: []gguftest.Tensor{
			{Name: "norm", Type: lesskernels.F32, Dims: []uint64{3}, Data: []byte("twelve bytes")},
			{Name: "weight", Type: lesskernels.Q8_0, Dims: []uint64{32, 3}, Data: bytes.Repeat([]byte{7}, 3*34)},
			{Name: "cube", Type: lesskernels.F16, Dims: []uint64{1, 5, 1, 3}, Data: bytes.Repeat([]byte{9}, 30)},
		},
	}
}

func parse(t *testing.T, f gguftest.File) *gguf.File {
	t.Helper()
	parsed, err := gguf.Parse(f.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestMetadata(t *testing.T) {
	f := parse(t, small())
	for key, want := range map[string]int{"u8": 200, "i8": -3, "u16": 65535, "i16": -300, "u32": 1 << 31, "i32": -1 << 31, "u64": math.MaxInt64, "i64": -1 << 40} {
		if got, ok := f.Int(key); !ok || got != want {
			t.Errorf("Int(%q) = %d, %t, want %d", key, got, ok, want)
		}
	}
	for key, want := range map[string]float64{"f32": 0.5, "f64": 1e-300, "u8": 200} {
		if got, ok := f.Float(key); !ok || got != want {
			t.Errorf("Float(%q) = %g, %t, want %g", key, got, ok, want)
		}
	}
	for key, want := range map[string]bool{"yes": true, "no": false} {
		if got, ok := f.Bool(key); !ok || got != want {
			t.Errorf("Bool(%q) = %t, %t, want %t", key, got, ok, want)
		}
	}
	for key, want := range map[string]string{"general.architecture": "llama", "empty": ""} {
		if got, ok := f.String(key); !ok || got != want {
			t.Errorf("String(%q) = %q, %t, want %q", key, got, ok, want)
		}
	}
	if got, ok := f.Strings("strings"); !ok || !slices.Equal(got, []string{"a", "", "häß"}) {
		t.Errorf("Strings = %q, %t", got, ok)
	}
	if got, ok := f.Strings("none"); !ok || len(got) != 0 {
		t.Errorf("Strings of an empty list = %q, %t", got, ok)
	}
	if got, ok := f.Ints("ints"); !ok || !slices.Equal(got, []int{-1, 0, 7}) {
		t.Errorf("Ints = %d, %t", got, ok)
	}
	if got, ok := f.Floats("floats"); !ok || !slices.Equal(got, []float64{0.25, -2}) {
		t.Errorf("Floats = %g, %t", got, ok)
	}
	if keys := f.Keys(); len(keys) != len(small().Keys) || !slices.IsSorted(keys) {
		t.Errorf("Keys = %q", keys)
	}
}

// A key that is missing, of another kind or too large is not ok, and no panic.
func TestMetadataMismatch(t *testing.T) {
	f := parse(t, small())
	for _, key := range append(f.Keys(), "missing") {
		_, isInt := f.Int(key)
		_, isString := f.String(key)
		_, isBool := f.Bool(key)
		_, isStrings := f.Strings(key)
		_, isInts := f.Ints(key)
		count := 0
		for _, is := range []bool{isInt, isString, isBool, isStrings, isInts} {
			if is {
				count++
			}
		}
		want := 1
		switch key {
		case "missing", "u64.huge", "ints.huge", "f32", "f64", "floats":
			want = 0
		}
		if count != want {
			t.Errorf("%q is of %d kinds, want %d", key, count, want)
		}
	}
}

func TestTensors(t *testing.T) {
	for _, version := range []uint32{2, 3} {
		made := small()
		made.Version = version
		f := parse(t, made)
		if f.Version != int(version) || len(f.Tensors) != len(made.Tensors) {
			t.Fatalf("version %d with %d tensors", f.Version, len(f.Tensors))
		}
		for _, want := range made.Tensors {
			got, ok := f.Tensor(want.Name)
			if !ok || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) || len(got.Dims) != len(want.Dims) {
				t.Errorf("%s: %+v", want.Name, got)
			}
			for i, d := range want.Dims {
				if got.Dims[i] != int(d) {
					t.Errorf("%s: dims %v, want %v", want.Name, got.Dims, want.Dims)
				}
			}
		}
		if _, ok := f.Tensor("missing"); ok {
			t.Error("found a tensor that is not there")
		}
	}
}

func TestOpenAndClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "small.gguf")
	if err := os.WriteFile(path, small().Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	fromMemory, err := parse(t, small()).Hash()
	if err != nil || len(fromMemory) != 64 {
		t.Fatalf("hash %q, %v", fromMemory, err)
	}
	if hash, err := f.Hash(); err != nil || hash != fromMemory {
		t.Errorf("hash %q, %v, want %q", hash, err, fromMemory)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, ok := f.Strings("strings"); ok || len(f.Tensors) != 0 {
		t.Error("metadata and tensors outlive Close")
	}
}

func TestHashAfterClose(t *testing.T) {
	f := parse(t, small())
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Hash(); !errors.Is(err, gguf.ErrClosed) {
		t.Errorf("Hash after Close: %v, want ErrClosed", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.gguf")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, empty, filepath.Join(dir, "missing.gguf")} {
		if _, err := gguf.Open(path); err == nil {
			t.Errorf("opened %s", path)
		}
	}
}
