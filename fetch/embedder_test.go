package fetch

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// TestONNXBecomesSafetensors holds every weight that comes out of a small
// encoder in ONNX (testdata/make_onnx.py) to those that went in: the same, or
// where 8-bit codes were made of them, of a whole table or of each column of a matrix, as
// near as a code is to what it stands for.
func TestONNXBecomesSafetensors(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("TestONNXBecomesSafetensors needs python3")
	}
	want := openTensors(t, "../decode/embed/testdata/tiny-embedder/model.safetensors")
	names := []string{"embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight",
		"embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias"}
	for _, layer := range []string{"encoder.layer.0.", "encoder.layer.1."} {
		for _, part := range []string{"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
			"attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"} {
			names = append(names, layer+part+".weight", layer+part+".bias")
		}
	}
	for archive, off := range map[string]float64{"tiny": 0, "tiny-q": 1. / 127} {
		out := filepath.Join(t.TempDir(), archive)
		if text, err := exec.Command(python, "onnx_bert.py", "testdata/"+archive+".zip", archive, out).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", archive, err, text)
		}
		got := openTensors(t, filepath.Join(out, "model.safetensors"))
		for _, name := range names {
			a, b := values(t, got, name), values(t, want, name)
			if len(a) != len(b) {
				t.Fatalf("%s: %s has %d values, want %d", archive, name, len(a), len(b))
			}
			var most, apart float64
			for i := range b {
				most, apart = max(most, math.Abs(float64(b[i]))), max(apart, math.Abs(float64(a[i]-b[i])))
			}
			if !(apart <= off*most) {
				t.Errorf("%s: %s is off by %g of at most %g", archive, name, apart, most)
			}
		}
	}
	out := filepath.Join(t.TempDir(), "other")
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
