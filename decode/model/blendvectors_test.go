package model

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/decode/gguf/gguftest"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// blendModel is the model of testdata/make_blend.py.
func blendModel(t *testing.T, f fixture) *CPU {
	t.Helper()
	file := gguftest.File{Keys: []gguftest.Key{
		{Name: "general.architecture", Value: "llama"},
		{Name: "llama.block_count", Value: uint32(4)},
		{Name: "llama.embedding_length", Value: uint32(32)},
		{Name: "llama.feed_forward_length", Value: uint32(40)},
		{Name: "llama.attention.head_count", Value: uint32(4)},
		{Name: "llama.attention.head_count_kv", Value: uint32(2)},
		{Name: "llama.attention.key_length", Value: uint32(16)},
		{Name: "llama.context_length", Value: uint32(256)},
		{Name: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
	}}
	for name, tensor := range f.tensors {
		weight, ok := strings.CutPrefix(name, "w.")
		if !ok {
			continue
		}
		var dims []uint64
		for _, n := range slices.Backward(tensor.Shape) {
			dims = append(dims, uint64(n))
		}
		var data bytes.Buffer
		binary.Write(&data, binary.LittleEndian, f.floats(name))
		file.Tensors = append(file.Tensors, gguftest.Tensor{Name: weight + ".weight", Type: lesskernels.F32, Dims: dims, Data: data.Bytes()})
	}
	slices.SortFunc(file.Tensors, func(a, b gguftest.Tensor) int { return strings.Compare(a.Name, b.Name) })
	parsed, err := gguf.Parse(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	pool := cpu.NewPool(2)
	t.Cleanup(pool.Close)
	c, err := NewCPU(parsed, Float32, Limits{Tokens: 40, Sequences: 2}, pool)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A blend agrees with an independent one in PyTorch, float64.
func TestBlendVectors(t *testing.T) {
	f := readFixture(t, "blend.safetensors")
	c := blendModel(t, f)
	ids, at, length := f.ints("ids"), f.ints("at"), f.ints("length")
	const head = 4
	var places []Place
	for i := range at {
		places = append(places, Place{At: int(at[i]), Passage: passageOf(t, c, ids[:head], ids[at[i]:at[i]+length[i]])})
	}
	for _, share := range []float64{0.15, 0.4, 1} {
		name := fmt.Sprint(share)
		b := &Blend{Tokens: ids, Places: places, Share: share}
		desk, rows := runBlend(t, c, "full", b)
		want := f.ints("rows." + name)
		for layer := range rows {
			for p := range ids {
				if computed := slices.Contains(rows[layer], p); computed != (want[layer*len(ids)+p] == 1) {
					t.Errorf("share %s, layer %d: row %d computed: %v", name, layer, p, computed)
				}
			}
		}
		if diff := worst(b.Logits, f.floats("logits."+name)); !(diff <= 5e-5) {
			t.Errorf("share %s: logits differ by %.2g of the largest", name, diff)
		}
		if share != 0.4 {
			continue
		}
		var k, v []float32
		for layer := range c.config.Layers {
			for kvHead := range c.config.KVHeads {
				heldK, heldV := desk.(*cache.Sequence).Segment(layer, kvHead)
				k, v = append(k, c.wideAll(heldK)...), append(v, c.wideAll(heldV)...)
			}
		}
		if diffK, diffV := worst(k, f.floats("k")), worst(v, f.floats("v")); !(diffK <= 5e-5 && diffV <= 5e-5) {
			t.Errorf("keys differ by %.2g of the largest, values by %.2g", diffK, diffV)
		}
	}
}
