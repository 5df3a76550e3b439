package lesskernels

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// safetensorsFile is a header and data bytes behind the right length.
func safetensorsFile(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range data {
		b = append(b, byte(i))
	}
	return b
}

func readBytes(b []byte) (*Safetensors, error) {
	return ReadSafetensors(bytes.NewReader(b), int64(len(b)))
}

func TestReadSafetensors(t *testing.T) {
	s, err := readBytes(safetensorsFile(`{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]},`+
		`"empty":{"dtype":"F32","shape":[0,7],"data_offsets":[8,8]},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},`+
		`"scalar":{"dtype":"I8","shape":[],"data_offsets":[14,15]}}  `, 15))
	if err != nil {
		t.Fatal(err)
	}
	if s.Metadata["format"] != "pt" {
		t.Errorf("metadata %v", s.Metadata)
	}
	dtype, data, err := s.Bytes("b", 3)
	if err != nil || dtype != BF16 || !bytes.Equal(data, []byte{8, 9, 10, 11, 12, 13}) {
		t.Errorf("b: %v %v %v", dtype, data, err)
	}
	for _, c := range []struct {
		name  string
		shape []int
		want  string
	}{
		{"none", []int{1}, "missing"},
		{"a", []int{2, 1}, "shape"},
		{"a", []int{2}, "shape"},
		{"scalar", nil, "I8"},
	} {
		if _, _, err := s.Bytes(c.name, c.shape...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %v: got error %v, want one about %q", c.name, c.shape, err, c.want)
		}
	}
}

func TestReadSafetensorsRefuses(t *testing.T) {
	one := func(entry string) string { return `{"a":` + entry + `}` }
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty file", nil, "too few"},
		{"short prefix", []byte{1, 2, 3}, "too few"},
		{"header beyond the file", binary.LittleEndian.AppendUint64(nil, 1), "header of 1 bytes"},
		{"header length overflows", binary.LittleEndian.AppendUint64(nil, 1<<63), "header of"},
		{"no object", safetensorsFile(`[]`, 0), "not a JSON object"},
		{"not JSON", safetensorsFile(`{"a"`, 0), "EOF"},
		{"two values", safetensorsFile(`{} {}`, 0), "more than one value"},
		{"twice", safetensorsFile(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), "twice"},
		{"unknown type", safetensorsFile(one(`{"dtype":"F12","shape":[1],"data_offsets":[0,1]}`), 1), "unknown type"},
		{"negative dimension", safetensorsFile(one(`{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}`), 1), "shape"},
		{"fraction", safetensorsFile(one(`{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}`), 1), "shape"},
		{"end before begin", safetensorsFile(one(`{"dtype":"U8","shape":[1],"data_offsets":[1,0]}`), 1), "offsets"},
		{"beyond the data", safetensorsFile(one(`{"dtype":"U8","shape":[2],"data_offsets":[0,2]}`), 1), "offsets"},
		{"size disagrees", safetensorsFile(one(`{"dtype":"F32","shape":[1],"data_offsets":[0,1]}`), 1), "needs 4 bytes"},
		{"shape overflows", safetensorsFile(one(`{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}`), 0), "overflows"},
		{"dimension overflows", safetensorsFile(one(`{"dtype":"U8","shape":[0,18446744073709551615],"data_offsets":[0,0]}`), 0), "overflows"},
		{"overlap", safetensorsFile(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), "overlap"},
		{"same bytes", safetensorsFile(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2), "overlap"},
		{"gap", safetensorsFile(one(`{"dtype":"U8","shape":[1],"data_offsets":[1,2]}`), 2), "gap"},
		{"bytes left over", safetensorsFile(one(`{"dtype":"U8","shape":[1],"data_offsets":[0,1]}`), 2), "after the last"},
		{"metadata of numbers", safetensorsFile(`{"__metadata__":{"a":1}}`, 0), "__metadata__"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readBytes(c.file)
			if !errors.Is(err, ErrSafetensors) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want ErrSafetensors about %q", err, c.want)
			}
		})
	}
}

func FuzzReadSafetensors(f *testing.F) {
	f.Add(safetensorsFile(`{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}`, 8))
	f.Add(safetensorsFile(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3))
	f.Add(safetensorsFile(`{"__metadata__":{"format":"pt"}}`, 0))
	f.Add(safetensorsFile(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := readBytes(file)
		if err != nil {
			return
		}
		total := 0
		for name, tensor := range s.tensors {
			total += int(tensor.size)
			if _, ok := floats[tensor.DType]; !ok {
				continue
			}
			if _, data, err := s.Bytes(name, tensor.Shape...); err != nil || len(data) != int(tensor.size) {
				t.Fatalf("tensor %q: %d bytes, %v", name, len(data), err)
			}
		}
		if total > len(file) {
			t.Fatalf("tensors of %d bytes in a file of %d", total, len(file))
		}
	})
}
