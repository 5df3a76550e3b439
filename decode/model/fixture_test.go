package model

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"lessrag/decode/gguf"
	"lessrag/lesskernels/cpu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is what testdata/make_fixture.py wrote: tensors of a safetensors file.
type fixture struct {
	t       *testing.T
	name    string
	data    []byte
	tensors map[string]struct {
		Type    string `json:"dtype"`
		Shape   []int
		Offsets [2]int `json:"data_offsets"`
	}
}

func readFixture(t *testing.T, name string) fixture {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	header := binary.LittleEndian.Uint64(data)
	f := fixture{t: t, name: name, data: data[8+header:]}
	if err := json.Unmarshal(data[8:8+header], &f.tensors); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f
}

func (f fixture) values(name, dtype string) []byte {
	f.t.Helper()
	tensor, ok := f.tensors[name]
	if !ok || tensor.Type != dtype {
		f.t.Fatalf("%s has no %s tensor %s", f.name, dtype, name)
	}
	return f.data[tensor.Offsets[0]:tensor.Offsets[1]]
}

func (f fixture) ints(name string) []int32 {
	raw := f.values(name, "I32")
	out := make([]int32, len(raw)/4)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out
}

func (f fixture) floats(name string) []float32 {
	raw := f.values(name, "F32")
	out := make([]float32, len(raw)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out
}

// newCPU opens a model of testdata, or of the assets.
func newCPU(t testing.TB, path string, m Math, limits Limits) *CPU {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatalf("%v; run make fetch", err)
	}
	defer f.Close()
	pool := cpu.NewPool(0)
	t.Cleanup(pool.Close)
	c, err := NewCPU(f, m, limits, pool)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const tinyPath = "testdata/tiny.gguf"

// readerPath is the default reader's file, which make fetch lays out.
func readerPath() string {
	assets := os.Getenv("LESSRAG_ASSETS")
	if assets == "" {
		assets = filepath.Join("..", "..", "assets")
	}
	return filepath.Join(assets, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
}
