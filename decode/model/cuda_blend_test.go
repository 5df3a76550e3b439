package model

import (
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
	"lessrag/lesskernels"
)

func TestCUDABlendContract(t *testing.T) {
	onDevices(t, quantised, Limits{Tokens: 48, Sequences: 2, Blend: 150}, func(t *testing.T, c *CUDA) {
		if err := c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)); err != nil {
			t.Fatal(err)
		}
		conformBlends(t, c, blendings[2:], 1e-6, 1e-6)
	})
}

func TestCUDAShiftedKeys(t *testing.T) {
	one := quantised
	one.Layers = 1
	onDevices(t, one, Limits{Tokens: 48, Sequences: 2, Blend: 240}, func(t *testing.T, c *CUDA) { checkShiftedKeys(t, c, 1.0/128) })
}

// A prompt that was put together, and what caches keep of it, give the logits of the CPU's from the same passages; the same rows
// are computed, and the same tokens kept.
func TestCUDABlend(t *testing.T) {
	exact := exactly(t, quantised, 48)
	maps := syntheticMaps(exact.config, 5, lesskernels.PreRoPE, partly)
	if err := exact.UseMaps(maps); err != nil {
		t.Fatal(err)
	}
	onDevices(t, quantised, Limits{Tokens: 48, Sequences: 1, Blend: 170}, func(t *testing.T, c *CUDA) {
		if err := c.UseMaps(maps); err != nil {
			t.Fatal(err)
		}
		short, shortPlaces := blending{passages: []int{33, 20}, between: []int{5, 3, 11}, head: 5}.compute(t, c)
		long, longPlaces := blending{passages: []int{60, 70}, between: []int{5, 3, 11}, head: 5}.compute(t, c)
		for i, spec := range []string{"sinks+less", "streaming+less", "h2o+less", "tova+moment", "elastic", "vote+less", "sinks+less+kivi4", "sinks+think"} {
			t.Run(spec, func(t *testing.T) {
				parsed, err := cache.ParseSpec(spec)
				if err != nil {
					t.Fatal(err)
				}
				tokens, places, budget := short, shortPlaces, cache.Budget{Tokens: 37}
				if parsed.Packs() {
					tokens, places, budget.Tokens = long, longPlaces, 137
				}
				take := func(b blendBackend, parts int) (s Sequence, logits []float32, rows [][]int, attention []float32) {
					one, blend := conformance{b: b}, &Blend{Tokens: tokens, Share: []float64{0.15, 0.4}[i%2], Question: 8}
					for _, p := range places {
						blend.Places = append(blend.Places, Place{p.At, inParts(p.Passage, parts)})
					}
					desk, rows := runBlend(t, b, spec, blend)
					logits = slices.Clone(blend.Logits)
					s = one.sequence(t, spec, budget, 4)
					var staged cache.Staged
					if desk.Plan().Watches() || parsed.Stages() {
						staged = b.Staged(desk)
						attention = slices.Concat(staged.Attention...)
					}
					if parsed.Stages() {
						staged.Keep, staged.Question, staged.End = slices.Repeat([]int{s.Plan().Keep}, len(staged.Positions)), len(tokens)-8, true
						b.Take(s, desk, cache.ChooserOf(parsed).Choose(staged))
					} else {
						b.Move(s, desk)
					}
					return s, logits, rows, attention
				}
				want, reference, chosen, seen := take(exact, 2)
				got, logits, rows, attention := take(c, 1)
				if off := worst(attention, seen); seen != nil && !(off <= 0.04) {
					t.Errorf("attention off by %.2g of the largest", off)
				}
				for layer := range chosen { // two rows may be as far off up to rounding
					others := slices.DeleteFunc(slices.Clone(rows[layer]), func(at int) bool { return slices.Contains(chosen[layer], at) })
					if len(rows[layer]) != len(chosen[layer]) || len(others) > 1 {
						t.Errorf("layer %d computes rows %v, want %v", layer, rows[layer], chosen[layer])
					}
				}
				off, most := offNorm([][]float32{logits}, [][]float32{reference}), 0.03
				if parsed.Packs() { // a key that differs a little gets other codes now and then
					most = 0.05
				}
				for i := range int32(6) {
					if other := exchanged(got.(*cudaSequence), want.(*cache.Sequence)); other == 1 {
						t.Logf("two tokens are as good as one another, %d tokens after the prompt", i)
						break
					} else if other > 0 {
						t.Fatalf("%d tokens after the prompt, %d are held that the CPU has evicted", i, other)
					}
					step := func(b backend, s Sequence) [][]float32 {
						return (&conformance{b: b}).run(t, s, []int32{5 + i}, 1, false)
					}
					off = max(off, offNorm(step(c, got), step(exact, want)))
				}
				if t.Logf("logits within %.2g of their norm", off); !(off <= most) {
					t.Errorf("logits off by %.2g of their norm", off)
				}
			})
		}
	})
}

// inParts is a passage whose numbers are stored in so many parts.
func inParts(p *passages.Passage, parts int) *passages.Passage {
	other := *p
	other.Heads = slices.Clone(p.Heads)
	for i := range other.Heads {
		for _, x := range []*[]uint16{&other.Heads[i].K, &other.Heads[i].V} {
			tokens := p.Tokens
			if other.Heads[i].Positions != nil {
				tokens = len(other.Heads[i].Positions)
			}
			n := len(*x) / tokens
			all := make([]uint16, parts*len(*x))
			for token := range tokens {
				copy(all[token*parts*n:], rowOf(*x, token, n))
			}
			*x = all
		}
	}
	return &other
}
