package fetch

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// TestONNXBecomesSafetensors holds every weight that comes out of a small
// encoder in ONNX (testdata/make_onnx.py) to those that went in.
func TestONNXBecomesSafetensors(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("TestONNXBecomesSafetensors needs python3")
	}
	out := filepath.Join(t.TempDir(), "tiny")
	if text, err := exec.Command(python, "onnx_bert.py", "testdata/tiny.zip", "tiny", out).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	got, want := openTensors(t, filepath.Join(out, "model.safetensors")), openTensors(t, "../decode/embed/testdata/tiny-embedder/model.safetensors")
	names := []string{"embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight",
		"embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"}
	for _, layer := range []string{"encoder.layer.0.", "encoder.layer.1."} {
		for _, part := range []string{"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
			"attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"} {
			names = append(names, layer+part+".weight", layer+part+".bias")
		}
	}
	for _, name := range names {
		if a, b := values(t, got, name), values(t, want, name); !slices.Equal(a, b) {
			t.Errorf("%s: %d values are not the %d of the original", name, len(a), len(b))
		}
	}
	if text, err := exec.Command(python, "onnx_bert.py", "testdata/tiny.zip", "other", out).CombinedOutput(); err == nil {
		t.Errorf("a model that the archive does not hold gave %s", text)
	}
}

func openTensors(t *testing.T, path string) *lesskernels.Safetensors {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	tensors, err := lesskernels.ReadSafetensors(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return tensors
}

func values(t *testing.T, file *lesskernels.Safetensors, name string) []float32 {
	t.Helper()
	tensor, ok := file.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	dtype, data, err := file.Bytes(name, tensor.Shape...)
	if err != nil {
		t.Fatal(err)
	}
	n := 1
	for _, dim := range tensor.Shape {
		n *= dim
	}
	all := make([]float32, n)
	if err := cpu.Dequantize(all, dtype, data); err != nil {
		t.Fatal(err)
	}
	return all
}
