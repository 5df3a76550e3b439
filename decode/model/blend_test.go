package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
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
				desk, rows := runBlend(t, c, "full", b)
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

// All rows computed are a full prefill: keys and values bit for bit, logits up to the
// order of sums, which is another for the last row alone; so is, up to that order, one
// passage at position 0, or behind its head, of which none is computed again.
func TestBlendIsPrefill(t *testing.T) {
	for _, m := range []Math{Float32, Int8} {
		c := newCPU(t, tinyPath, m, Limits{Tokens: 48, Sequences: 2})
		check := func(w blending, share float64) {
			t.Helper()
			tokens, places := w.compute(t, c)
			s := newSequence(t, c, "full", cache.Budget{})
			var want []float32
			for from := 0; from < len(tokens); from += 48 {
				r := forward(t, c, Work{Sequence: s, Tokens: tokens[from:min(len(tokens), from+48)], Logits: true})
				want = slices.Clone(r.Logits)
			}
			b := &Blend{Tokens: tokens, Places: places, Share: share}
			desk, _ := runBlend(t, c, "full", b)
			tolerance := 1e-6
			if share == 0 {
				tolerance = map[Math]float64{Float32: 1e-5, Int8: 0.02}[m]
			}
			if diff := worst(b.Logits, want); !(diff <= tolerance) {
				t.Errorf("%s, %v, share %v: logits differ by %.2g", m, w, share, diff)
			}
			for layer := range c.config.Layers {
				for head := range c.config.KVHeads {
					k, v := desk.Segment(layer, head)
					wantK, wantV := s.Segment(layer, head)
					same := slices.Equal(k, wantK) && slices.Equal(v, wantV)
					if diff := max(worst(c.wideAll(k), c.wideAll(wantK)), worst(c.wideAll(v), c.wideAll(wantV))); share == 1 && !same || !(diff <= tolerance) {
						t.Fatalf("%s, %v, share %v: layer %d, head %d holds something else", m, w, share, layer, head)
					}
				}
			}
		}
		for _, w := range blendings {
			check(w, 1)
		}
		check(blending{passages: []int{40}, between: []int{0, 9}}, 0)
		check(blending{passages: []int{70}, between: []int{30, 9}, head: 30}, 0)
	}
}

// A passage whose keys were turned is, up to what bf16 rounds, the passage as it would
// have been computed there: keys once rounded where they were computed, and once more
// where they are put.
func TestShiftedKeys(t *testing.T) {
	for _, test := range []struct {
		math Math
		most float64 // of a key's length
	}{{Float32, 1e-4}, {Int8, 1.0 / 128}} {
		c := newCPU(t, tinyPath, test.math, Limits{Tokens: 48, Sequences: 2})
		c.weights.layers = c.weights.layers[:1] // the first layer's keys follow from the token and its place alone
		c.config.Layers = 1
		tokens, _ := blending{passages: []int{30}, between: []int{0, 0}}.compute(t, c)
		for _, by := range []int{1, 17, 200} {
			pad := slices.Repeat([]int32{1}, by)
			there := passageOf(t, c, pad, tokens)
			moved := passageOf(t, c, nil, tokens)
			plan, err := cache.NewDesk(cache.Spec{}, by+len(tokens), c.Shape(cache.Full))
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.NewSequence(plan)
			if err != nil {
				t.Fatal(err)
			}
			desk := s.(*cache.Sequence)
			desk.Lay(by + len(tokens))
			c.place(desk, Place{At: by, Passage: moved})
			largest := 0.0
			for head := range c.config.KVHeads {
				k, v := desk.Segment(0, head)
				for i := range tokens {
					got, want := make([]float32, c.config.HeadDim), make([]float32, c.config.HeadDim)
					c.widen(got, rowOf(k, by+i, c.stored))
					c.widen(want, rowOf(there.Heads[head].K, i, c.stored))
					g, w := doubles(got), doubles(want)
					diff := math.Sqrt(square(g, w) / dot64(w, w))
					if largest = max(largest, diff); !(diff <= test.most) {
						t.Fatalf("%s, by %d: key %d differs by %.2g of its length", test.math, by, i, diff)
					}
				}
				if !slices.Equal(v[by*c.stored:], there.Heads[head].V) {
					t.Fatalf("%s, by %d: other values", test.math, by)
				}
			}
			t.Logf("%s, by %d: keys within %.2g of their length", test.math, by, largest)
			if err := s.Free(); err != nil {
				t.Error(err)
			}
		}
	}
}

// No row sees the future: whatever stands behind a computed row, stored or computed,
// leaves it as it is.
func TestBlendIsCausal(t *testing.T) {
	c := newCPU(t, tinyPath, Float32, Limits{Tokens: 48, Sequences: 2})
	tokens, places := blending{passages: []int{30, 40}, between: []int{4, 6, 20}, head: 4}.compute(t, c)
	plain := &Blend{Tokens: tokens, Places: places, Share: 0.3}
	want, rows := runBlend(t, c, "full", plain)
	random := rand.New(rand.NewPCG(31, 32))
	disturbed := *places[1].Passage
	disturbed.Heads = slices.Clone(disturbed.Heads)
	for i := range disturbed.Heads {
		h := &disturbed.Heads[i]
		h.K, h.V = slices.Clone(h.K), slices.Clone(h.V)
		for j := range h.K {
			h.K[j], h.V[j] = uint16(random.Uint32()&0xbfff), uint16(random.Uint32()&0xbfff) // finite
		}
	}
	other := slices.Clone(tokens)
	for i := places[1].At + 40; i < len(other); i++ {
		other[i] = (other[i] + 1) % int32(c.config.Vocab)
	}
	got, gotRows := runBlend(t, c, "full", &Blend{Tokens: other, Places: []Place{places[0], {places[1].At, &disturbed}}, Share: 0.3})
	compared := 0
	for layer := range c.config.Layers {
		for head := range c.config.KVHeads {
			k, v := want.Segment(layer, head)
			gotK, gotV := got.Segment(layer, head)
			for _, p := range rows[layer] {
				if p >= places[1].At || !slices.Contains(gotRows[max(0, layer-1)], p) || !slices.Contains(rows[max(0, layer-1)], p) {
					continue
				}
				compared++
				if !slices.Equal(rowOf(k, p, c.stored), rowOf(gotK, p, c.stored)) || !slices.Equal(rowOf(v, p, c.stored), rowOf(gotV, p, c.stored)) {
					t.Fatalf("layer %d, head %d: row %d has seen what stands behind it", layer, head, p)
				}
			}
		}
	}
	if compared < 20 {
		t.Fatalf("only %d rows compared", compared)
	}
	if slices.Equal(plain.Logits, make([]float32, len(plain.Logits))) {
		t.Error("no logits")
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

// What a blend cannot compute it refuses.
func TestBlendRefuses(t *testing.T) {
	c := newCPU(t, tinyPath, Int8, Limits{Tokens: 48, Sequences: 2})
	tokens, places := blendings[1].compute(t, c)
	plan, err := cache.NewDesk(cache.Spec{}, len(tokens), c.Shape(cache.Full))
	if err != nil {
		t.Fatal(err)
	}
	desk, err := c.NewSequence(plan)
	if err != nil {
		t.Fatal(err)
	}
	defer desk.Free()
	short := &passages.Passage{Tokens: 3, Heads: make([]passages.Head, len(places[0].Passage.Heads))}
	for name, b := range map[string]*Blend{
		"no desk":        {Tokens: tokens},
		"answers":        {Desk: newSequence(t, c, "full", cache.Budget{}), Tokens: tokens},
		"no tokens":      {Desk: desk},
		"too long":       {Desk: desk, Tokens: make([]int32, len(tokens)+1)},
		"vocabulary":     {Desk: desk, Tokens: []int32{int32(c.config.Vocab)}},
		"share":          {Desk: desk, Tokens: tokens, Share: math.NaN()},
		"question":       {Desk: desk, Tokens: tokens, Question: len(tokens) + 1},
		"overlap":        {Desk: desk, Tokens: tokens, Places: []Place{places[1], places[0]}},
		"beyond the end": {Desk: desk, Tokens: tokens, Places: []Place{{len(tokens) - 1, places[0].Passage}}},
		"other model":    {Desk: desk, Tokens: tokens, Places: []Place{{0, &passages.Passage{Tokens: 3}}}},
		"numbers":        {Desk: desk, Tokens: tokens, Places: []Place{{0, short}}},
	} {
		if _, err := c.Blend(b, 10); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if desk.Position() != 0 {
		t.Error("a refused blend moved the desk")
	}
}

// What is blended goes on as every policy's own prompt does that evicts once, at its
// end: where all tokens fit, the next logits are those of the full cache.
func TestBlendThenEvict(t *testing.T) {
	c := newCPU(t, tinyPath, Int8, Limits{Tokens: 48, Sequences: 2})
	if err := c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)); err != nil {
		t.Fatal(err)
	}
	tokens, places := blendings[1].compute(t, c)
	take := func(spec string, budget int) *cache.Sequence {
		desk, _ := runBlend(t, c, spec, &Blend{Tokens: tokens, Places: places, Share: 0.15})
		s := newSequenceEvery(t, c, spec, cache.Budget{Tokens: budget}, 4)
		c.Move(s, desk)
		return s
	}
	next := func(s *cache.Sequence) []float32 {
		return slices.Clone(forward(t, c, Work{Sequence: s, Tokens: []int32{5}, Logits: true}).Logits)
	}
	full := take("full", 0)
	want := next(full)
	for _, spec := range []string{"sinks", "streaming", "h2o", "tova", "sinks+less", "h2o+moment", "corm+moment", "buzz", "elastic", "elastic-values"} {
		whole := take(spec, 200)
		if got := next(whole); !slices.Equal(got, want) {
			t.Errorf("%s with room for all: other logits than the full cache", spec)
		}
		cut := take(spec, 40)
		held := cut.Held()
		if held.Kept > 40 || held.Kept < 20 || held.Evicted != len(tokens)-held.Kept || held.Bytes > cut.Plan().Bytes {
			t.Errorf("%s: held %+v of %d tokens", spec, held, len(tokens))
		}
		if state := cut.Plan().Spec.State != ""; state != (held.Absorbed > 0 && held.Absorbed == held.Evicted) {
			t.Errorf("%s: %d tokens absorbed", spec, held.Absorbed)
		}
		if got := next(cut); slices.Equal(got, want) {
			t.Errorf("%s with room for 40: nothing was evicted", spec)
		}
	}
}
