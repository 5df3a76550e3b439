package model

import (
	"math"
	"testing"

	"lessrag/decode/cache"
)

// A model run layer by layer with dense attention is the forward pass over a
// full cache: the same kernels, keys and values rounded alike.
func TestLayerwiseIsForward(t *testing.T) {
	ids := readFixture(t, "reader.safetensors").ints("ids")[:150]
	c := newCPU(t, readerPath(), Int8, Limits{Tokens: 160, Sequences: 1})
	n := len(ids) - 1
	want := forward(t, c, Work{Sequence: newSequence(t, c, "full", cache.Budget{}), Tokens: ids[:n], Targets: ids[1:]}).Scores

	l, err := NewLayerwise(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][]int32{nil, make([]int32, 161), {-1}, {int32(c.Config().Vocab)}} {
		if _, err := l.Embed(wrong); err == nil {
			t.Errorf("%d tokens accepted", len(wrong))
		}
	}
	x, err := l.Embed(ids[:n])
	if err != nil {
		t.Fatal(err)
	}
	for layer := range c.Config().Layers {
		l.Layer(layer, x, l.Dense)
	}
	const from = 100
	for i, got := range l.Scores(x, from, ids[from+1:]) {
		if !(math.Abs(got.NLL-want[from+i].NLL) <= 1e-4) || got.Best != want[from+i].Best {
			t.Fatalf("position %d: %+v, want %+v", from+i, got, want[from+i])
		}
	}
}
