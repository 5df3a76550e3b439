package model

import (
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
	"lessrag/lesskernels"
)

// Memories of passages are those of the CPU, and what follows them in a prompt has its logits, also where they have made room
// for one another.
func TestCUDAMemories(t *testing.T) {
	exact := exactly(t, quantised, 48)
	maps := syntheticMaps(exact.config, 5, lesskernels.PreRoPE, partly)
	for _, m := range maps.Layers { // some features fade
		m.Fade = make([]float32, m.KVHeads*m.Rank)
		for i := range m.Fade {
			m.Fade[i] = float32(-3 - i%4)
		}
	}
	if err := exact.UseMaps(maps); err != nil {
		t.Fatal(err)
	}
	onDevices(t, quantised, Limits{Tokens: 48, Sequences: 1, Blend: 100}, func(t *testing.T, c *CUDA) {
		if err := c.UseMaps(maps); err != nil {
			t.Fatal(err)
		}
		tokens := make([]int32, 90)
		for i := range tokens {
			tokens[i] = int32(i * i % 89)
		}
		const keep = 9
		memories := map[string][]*passages.Passage{}
		for _, state := range []string{cache.Less, cache.Moment} {
			for _, span := range [][2]int{{5, 40}, {44, 80}} {
				want, got := memoryOf(t, exact, state, tokens[:5], tokens[span[0]:span[1]], keep), memoryOf(t, c, state, tokens[:5], tokens[span[0]:span[1]], keep)
				for i := range want.Heads {
					w, g := &want.Heads[i], &got.Heads[i]
					if !slices.Equal(g.Positions, w.Positions) || g.Absorbed != w.Absorbed {
						t.Fatalf("%s: KV head %d holds %v and has absorbed %d, want %v and %d", state, i, g.Positions, g.Absorbed, w.Positions, w.Absorbed)
					}
					if len(w.State) == 0 {
						continue
					}
					numbers := g.State
					if state == cache.Less { // both as old as the older one
						theirs, ours := lessState(g, c.heads.Dim), lessState(w, exact.stored)
						for _, s := range []*cache.State{theirs, ours} {
							wind(c.source.Layers[i/2].Rates(i%2), s, max(g.Clock, w.Clock))
						}
						w = &passages.Head{State: slices.Concat(exact.sumOfParts(ours.H), ours.Z)}
						numbers = slices.Concat(theirs.H, theirs.Z)
					}
					if off := worst(numbers, w.State); !(off <= 0.03) {
						t.Errorf("%s: the state of KV head %d is off by %.2g", state, i, off)
					}
				}
				memories[state] = append(memories[state], got)
			}
		}
		for i, spec := range []string{"sinks+less", "h2o+moment", "tova+less", "corm+moment"} {
			for _, budget := range []int{60, 20} {
				parsed, err := cache.ParseSpec(spec)
				if err != nil {
					t.Fatal(err)
				}
				run := func(b rememberer, parts int) (Sequence, [][]float32) {
					one := conformance{b: b}
					s := one.sequence(t, spec, cache.Budget{Tokens: budget}, 4)
					one.run(t, s, tokens[:5], 5, true)
					for j, from := range []int{40, 80} {
						if err := b.Place(s, memoryInParts(memories[parsed.State][j], parts, c.heads.Dim)); err != nil {
							t.Fatal(err)
						}
						one.run(t, s, tokens[from:from+4], 4, true)
					}
					return s, one.run(t, s, tokens[84:], 1, false)
				}
				want, reference := run(exact, 2)
				got, logits := run(c, 1)
				w, g := want.Held(), got.Held()
				if w.Bytes = g.Bytes; g != w || g.Bytes > got.Plan().Bytes {
					t.Errorf("%s of %d: held %+v, want %+v", spec, budget, g, w)
				}
				if other := exchanged(got.(*cudaSequence), want.(*cache.Sequence)); other > 0 {
					t.Logf("%s of %d: %d tokens are as good as others", spec, budget, other)
					if other > 1 || i == 0 || budget == 60 {
						t.Errorf("%s of %d: %d tokens are held that the CPU has evicted", spec, budget, other)
					}
					continue
				}
				off := offNorm(logits, reference)
				if t.Logf("%s of %d: logits within %.2g of their norm", spec, budget, off); !(off <= 0.03) {
					t.Errorf("%s of %d: logits off by %.2g of their norm", spec, budget, off)
				}
			}
		}
		checkMemoryRefusals(t, c)
	})
}

// lessState is the state of LESS in a memory whose values have so many numbers.
func lessState(h *passages.Head, dim int) *cache.State {
	sums := len(h.State) / (dim + 1) * dim
	return &cache.State{Clock: h.Clock, H: slices.Clone(h.State[:sums]), Z: slices.Clone(h.State[sums:])}
}

// sumOfParts is H of values that are stored in two parts.
func (c *CPU) sumOfParts(h []float32) (sums []float32) {
	for row := range slices.Chunk(h, c.stored) {
		for i, x := range row[:c.config.HeadDim] {
			sums = append(sums, x+row[c.config.HeadDim+i])
		}
	}
	return sums
}

// memoryInParts is a memory whose numbers are stored in so many parts.
func memoryInParts(p *passages.Passage, parts, dim int) *passages.Passage {
	p = inParts(p, parts)
	for i := range p.Heads {
		if h := &p.Heads[i]; len(h.State)%(dim+1) == 0 && len(h.State) > 0 { // of LESS
			s, state := lessState(h, dim), []float32(nil)
			for row := range slices.Chunk(s.H, dim) {
				state = append(append(state, row...), make([]float32, (parts-1)*dim)...)
			}
			h.State = append(state, s.Z...)
		}
	}
	return p
}
