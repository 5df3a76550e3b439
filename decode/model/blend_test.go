package model

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/lesskernels"
)

// A blend computes the rows that the oracle computes, and its numbers.
func TestBlendIsOracle(t *testing.T) {
	c := newCPU(t, tinyPath, Float32, Limits{Tokens: 48, Sequences: 2})
	for _, w := range blendings {
		for _, share := range []float64{0.15, 0.5, 1} {
			t.Run(fmt.Sprintf("%v share %v", w.passages, share), func(t *testing.T) {
				tokens, places := w.compute(t, c)
				want := newBlend64(c, tokens, places).run(share)
				b := &Blend{Tokens: tokens, Places: places, Share: share}
				scratch, rows := runBlend(t, c, "full", b)
				desk := scratch.(*cache.Sequence)
				for layer := range rows {
					if !slices.Equal(rows[layer], want.rows[layer]) {
						t.Fatalf("layer %d computes rows %v, want %v", layer, rows[layer], want.rows[layer])
					}
				}
				if diff := worst(b.Logits, want.logits); !(diff <= 1e-4) {
					t.Errorf("logits differ by %.2g of the largest", diff)
				}
				for layer := range c.config.Layers {
					for head := range c.config.KVHeads {
						k, v := desk.Segment(layer, head)
						for p := range tokens {
							x := make([]float32, c.config.HeadDim)
							c.widen(x, rowOf(k, p, c.stored))
							if diff := worst(x, want.k[layer][head][p]); !(diff <= 1e-3) {
								t.Fatalf("layer %d, head %d: key %d differs by %.2g", layer, head, p, diff)
							}
							c.widen(x, rowOf(v, p, c.stored))
							if diff := worst(x, want.v[layer][head][p]); !(diff <= 1e-3) {
								t.Fatalf("layer %d, head %d: value %d differs by %.2g", layer, head, p, diff)
							}
						}
					}
				}
			})
		}
	}
}

// From layer to layer fewer rows go on, on average the share that was asked for.
func TestBlendIsGradual(t *testing.T) {
	c := newCPU(t, readerPath(), Int8, Limits{Tokens: 128, Sequences: 2})
	ids := readFixture(t, "reader.safetensors").ints("ids")
	var places []Place
	var tokens []int32
	for i := range 3 {
		from := 20 + i*100
		tokens = append(tokens, ids[i*2:i*2+2]...)
		places = append(places, Place{At: len(tokens), Passage: passageOf(t, c, nil, ids[from:from+100])})
		tokens = append(tokens, ids[from:from+100]...)
	}
	tokens = append(tokens, ids[500:510]...)
	b := &Blend{Tokens: tokens, Places: places, Share: 0.15}
	_, rows := runBlend(t, c, "full", b)
	sum := 0
	for layer, computed := range rows[1:] {
		if layer > 0 && len(computed) > len(rows[layer]) {
			t.Errorf("layer %d computes %d rows, the one before %d", layer+1, len(computed), len(rows[layer]))
		}
		for _, p := range computed {
			if !slices.Contains(rows[layer], p) {
				t.Fatalf("layer %d computes row %d, the one before did not", layer+1, p)
			}
		}
		sum += len(computed) - 16
	}
	if len(rows[0]) != len(tokens) || len(rows[1]) <= len(rows[len(rows)-1]) {
		t.Errorf("%d rows in the first layer, %d in the second, %d in the last", len(rows[0]), len(rows[1]), len(rows[len(rows)-1]))
	}
	if share := float64(sum) / float64(300*(len(rows)-1)); !(math.Abs(share-0.15) <= 0.005) {
		t.Errorf("a share of %.3f was computed", share)
	}
}

// The contract of blending, on the CPU.
func TestBlendContract(t *testing.T) {
	for _, m := range []Math{Float32, Int8} {
		c := newCPU(t, tinyPath, m, Limits{Tokens: 48, Sequences: 2})
		t.Run(string(m), func(t *testing.T) {
			if err := c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)); err != nil {
				t.Fatal(err)
			}
			conformBlends(t, c, blendings, 1e-6, map[Math]float64{Float32: 1e-5, Int8: 0.02}[m])
		})
	}
}

func TestShiftedKeys(t *testing.T) {
	for m, most := range map[Math]float64{Float32: 1e-4, Int8: 1.0 / 128} {
		c := newCPU(t, tinyPath, m, Limits{Tokens: 48, Sequences: 2})
		c.weights.layers = c.weights.layers[:1]
		c.config.Layers = 1
		checkShiftedKeys(t, c, most)
	}
}
