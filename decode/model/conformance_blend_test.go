package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
)

// conformBlends proves that a backend keeps the contract of decode.Blender. Logits of a blend of which all rows are computed
// are those of a prompt within exact of the largest, and with a stored passage within near.
func conformBlends(t *testing.T, b blendBackend, ways []blending, exact, near float64) {
	c := blends{conformance{b: b}, b}
	t.Run("all rows", func(t *testing.T) { c.checkAllRows(t, ways, exact, near) })
	t.Run("causal", c.checkCausal)
	t.Run("refusals", c.checkRefusals)
	t.Run("eviction", c.checkEviction)
}

type blends struct {
	conformance
	b blendBackend
}

// wide are the numbers [tokens, headDim] that are stored in one or more parts.
func (c *blends) wide(stored []uint16, tokens int) []float32 {
	dim := c.b.Config().HeadDim
	x, size := make([]float32, tokens*dim), len(stored)/tokens
	for i, bits := range stored {
		x[i/size*dim+i%size%dim] += math.Float32frombits(uint32(bits) << 16)
	}
	return x
}

// All rows computed are a full prefill: keys and values bit for bit, logits up to the
// order of sums, which is another for the last row alone; so is, up to that order, one
// passage at position 0, or behind its head, of which none is computed again.
func (c *blends) checkAllRows(t *testing.T, ways []blending, exact, near float64) {
	check := func(w blending, share float64) {
		t.Helper()
		tokens, places := w.compute(t, c.b)
		s := c.sequence(t, "full", cache.Budget{}, 0)
		want := c.run(t, s, tokens, 48, true)
		b := &Blend{Tokens: tokens, Places: places, Share: share}
		desk, _ := runBlend(t, c.b, "full", b)
		tolerance := exact
		if share == 0 {
			tolerance = near
		}
		if diff := worst(b.Logits, want[len(want)-1]); !(diff <= tolerance) {
			t.Errorf("%v, share %v: logits differ by %.2g", w, share, diff)
		}
		n := len(tokens)
		got, whole := held(t, c.b, desk, 0, n), held(t, c.b, s, 0, n)
		for i := range got.Heads {
			g, w := &got.Heads[i], &whole.Heads[i]
			same := slices.Equal(g.K, w.K) && slices.Equal(g.V, w.V)
			if diff := max(worst(c.wide(g.K, n), c.wide(w.K, n)), worst(c.wide(g.V, n), c.wide(w.V, n))); share == 1 && !same || !(diff <= tolerance) {
				t.Fatalf("%v, share %v: KV head %d holds something else", w, share, i)
			}
		}
	}
	for _, w := range ways {
		check(w, 1)
	}
	check(blending{passages: []int{40}, between: []int{0, 9}}, 0)
	check(blending{passages: []int{70}, between: []int{30, 9}, head: 30}, 0)
}

// A passage whose keys were turned is, up to what bf16 rounds, the passage as it would
// have been computed there: keys once rounded where they were computed, and once more
// where they are put. The model has one layer, whose keys follow from the token and its place alone.
func checkShiftedKeys(t *testing.T, b blendBackend, most float64) {
	c := blends{conformance{b: b}, b}
	tokens, _ := blending{passages: []int{30}, between: []int{0, 1}}.compute(t, b)
	passage, dim := tokens[:30], b.Config().HeadDim
	for _, by := range []int{1, 17, 200} {
		pad := slices.Repeat([]int32{1}, by)
		there := passageOf(t, b, pad, passage)
		blend := &Blend{Tokens: slices.Concat(pad, tokens), Places: []Place{{by, passageOf(t, b, nil, passage)}}}
		desk, _ := runBlend(t, b, "full", blend)
		moved := held(t, b, desk, by, len(passage))
		largest := 0.0
		for i := range moved.Heads {
			got, want := c.wide(moved.Heads[i].K, len(passage)), c.wide(there.Heads[i].K, len(passage))
			for j := range passage {
				g, w := doubles(rowOf(got, j, dim)), doubles(rowOf(want, j, dim))
				diff := math.Sqrt(square(g, w) / dot64(w, w))
				if largest = max(largest, diff); !(diff <= most) {
					t.Fatalf("by %d: key %d differs by %.2g of its length", by, j, diff)
				}
			}
			if !slices.Equal(moved.Heads[i].V, there.Heads[i].V) {
				t.Fatalf("by %d: other values", by)
			}
		}
		t.Logf("by %d: keys within %.2g of their length", by, largest)
	}
}

// No row sees the future: whatever stands behind a computed row, stored or computed,
// leaves it as it is.
func (c *blends) checkCausal(t *testing.T) {
	tokens, places := blending{passages: []int{30, 40}, between: []int{4, 6, 20}, head: 4}.compute(t, c.b)
	plain := &Blend{Tokens: tokens, Places: places, Share: 0.3}
	before, rows := runBlend(t, c.b, "full", plain)
	want := held(t, c.b, before, 0, len(tokens))
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
		other[i] = (other[i] + 1) % int32(c.b.Config().Vocab)
	}
	after, gotRows := runBlend(t, c.b, "full", &Blend{Tokens: other, Places: []Place{places[0], {places[1].At, &disturbed}}, Share: 0.3})
	got := held(t, c.b, after, 0, len(tokens))
	compared, kvHeads := 0, c.b.Config().KVHeads
	for i := range want.Heads {
		w, g, layer := &want.Heads[i], &got.Heads[i], i/kvHeads
		size := len(w.K) / len(tokens)
		for _, p := range rows[layer] {
			if p >= places[1].At || !slices.Contains(gotRows[max(0, layer-1)], p) || !slices.Contains(rows[max(0, layer-1)], p) {
				continue
			}
			compared++
			if !slices.Equal(rowOf(w.K, p, size), rowOf(g.K, p, size)) || !slices.Equal(rowOf(w.V, p, size), rowOf(g.V, p, size)) {
				t.Fatalf("KV head %d: row %d has seen what stands behind it", i, p)
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

// What a blend cannot compute it refuses.
func (c *blends) checkRefusals(t *testing.T) {
	tokens, places := blendings[1].compute(t, c.b)
	plan, err := cache.NewDesk(cache.Spec{}, len(tokens), c.b.Shape(cache.Full))
	if err != nil {
		t.Fatal(err)
	}
	desk := c.take(t, plan)
	short := &passages.Passage{Tokens: 3, Heads: make([]passages.Head, len(places[0].Passage.Heads))}
	for name, b := range map[string]*Blend{
		"no desk":        {Tokens: tokens},
		"answers":        {Desk: c.sequence(t, "full", cache.Budget{}, 0), Tokens: tokens},
		"no tokens":      {Desk: desk},
		"too long":       {Desk: desk, Tokens: make([]int32, len(tokens)+1)},
		"vocabulary":     {Desk: desk, Tokens: []int32{int32(c.b.Config().Vocab)}},
		"share":          {Desk: desk, Tokens: tokens, Share: math.NaN()},
		"question":       {Desk: desk, Tokens: tokens, Question: len(tokens) + 1},
		"overlap":        {Desk: desk, Tokens: tokens, Places: []Place{places[1], places[0]}},
		"beyond the end": {Desk: desk, Tokens: tokens, Places: []Place{{len(tokens) - 1, places[0].Passage}}},
		"other model":    {Desk: desk, Tokens: tokens, Places: []Place{{0, &passages.Passage{Tokens: 3}}}},
		"numbers":        {Desk: desk, Tokens: tokens, Places: []Place{{0, short}}},
	} {
		if _, err := c.b.Blend(b, 10); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if desk.Position() != 0 {
		t.Error("a refused blend moved the desk")
	}
}

// What is blended goes on as every policy's own prompt does that evicts once, at its
// end: where all tokens fit, the next logits are those of the full cache.
func (c *blends) checkEviction(t *testing.T) {
	tokens, places := blending{passages: []int{33, 17}, between: []int{5, 3, 11}, head: 5}.compute(t, c.b)
	lay := func(spec string) Sequence {
		desk, _ := runBlend(t, c.b, spec, &Blend{Tokens: tokens, Places: places, Share: 0.15})
		return desk
	}
	take := func(desk Sequence, spec string, budget int) Sequence {
		s := c.sequence(t, spec, cache.Budget{Tokens: budget}, 4)
		c.b.Move(s, desk)
		return s
	}
	next := func(s Sequence) []float32 { return c.run(t, s, []int32{5}, 1, false)[0] }
	want := next(take(lay("full"), "full", 0))
	for _, spec := range []string{"sinks", "streaming", "h2o", "tova", "sinks+less", "h2o+moment", "corm+moment", "buzz", "elastic", "elastic-values"} {
		desk := lay(spec)
		if got := next(take(desk, spec, 200)); !slices.Equal(got, want) {
			t.Errorf("%s with room for all: other logits than the full cache", spec)
		}
		cut := take(desk, spec, 40)
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
