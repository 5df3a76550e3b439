package model

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
	"lessrag/lesskernels"
)

// rememberer is what a device offers of decode.Blender.
type rememberer interface {
	blendBackend
	Distil(desk Sequence, first int, plan cache.Plan) (*passages.Passage, error)
	Place(s Sequence, p *passages.Passage) error
}

// memoryOf is the memory of tokens behind a head: keep of each KV head, and a state.
func memoryOf(t *testing.T, c rememberer, state string, head, tokens []int32, keep int) *passages.Passage {
	t.Helper()
	one := conformance{b: c}
	plan, err := cache.NewDesk(cache.Spec{Policy: cache.H2O}, len(head)+len(tokens), c.Shape(cache.H2O))
	if err != nil {
		t.Fatal(err)
	}
	desk := one.take(t, plan)
	for block := range slices.Chunk(slices.Concat(head, tokens), 40) {
		one.forward(t, Work{Sequence: desk, Tokens: block, Prompt: true})
	}
	plan, err = cache.NewPlan(cache.Spec{Policy: cache.H2O, State: state}, cache.Budget{Tokens: keep}, c.Shape(cache.H2O))
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Distil(desk, len(head), plan)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Memories that are placed in a prompt are what a cache is left with that was given the
// passages' keys and values at their places, kept the same tokens and absorbed the
// others: states of passages that were read apart add up.
func TestMemoriesAddUp(t *testing.T) {
	for _, state := range []string{cache.Less, cache.Moment} {
		for _, policy := range []string{cache.Sinks, cache.H2O, cache.TOVA, cache.CORM} {
			c := newCPU(t, tinyPath, Float32, Limits{Tokens: 48, Sequences: 2})
			if err := c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)); err != nil {
				t.Fatal(err)
			}
			w := blending{passages: []int{50, 33}, between: []int{5, 3, 9}, head: 5}
			tokens, places := w.compute(t, c)
			spec := policy + "+" + state
			const keep = 7
			remembering := newSequenceEvery(t, c, spec, cache.Budget{Tokens: 150}, 4)
			at := 0
			for i, place := range places {
				forward(t, c, Work{Sequence: remembering, Tokens: tokens[at:place.At]})
				end := place.At + place.Passage.Tokens
				m := memoryOf(t, c, state, tokens[:w.head], tokens[place.At:end], keep)
				if full := places[i].Passage.Bytes(); m.Bytes() >= full {
					t.Errorf("a memory of %d bytes for a passage of %d", m.Bytes(), full)
				}
				if err := c.Place(remembering, m); err != nil {
					t.Fatal(err)
				}
				if at = end; remembering.Position() != at {
					t.Fatalf("at %d, want %d", remembering.Position(), at)
				}
			}
			text := tokens[at:]

			// The same by hand, on a desk. What was fed between is the same too.
			plan, err := cache.NewDesk(cache.Spec{Policy: policy}, at, c.Shape(policy))
			if err != nil {
				t.Fatal(err)
			}
			made, err := c.NewSequence(plan)
			if err != nil {
				t.Fatal(err)
			}
			defer made.Free()
			desk := made.(*cache.Sequence)
			desk.Lay(at)
			for _, place := range places {
				c.place(desk, place)
			}
			choice := cache.Choice{}
			for i := range c.config.Layers * c.config.KVHeads {
				layer, head := i/c.config.KVHeads, i%c.config.KVHeads
				var kept []int32
				k, v := desk.Segment(layer, head)
				heldK, heldV := remembering.Segment(layer, head)
				for j, position := range remembering.Positions(layer, head) {
					kept = append(kept, position)
					inside := slices.ContainsFunc(places, func(p Place) bool {
						return int(position) >= p.At && int(position) < p.At+p.Passage.Tokens
					})
					if !inside { // fed beside memories: its own keys follow from them
						copy(rowOf(k, int(position), c.stored), rowOf(heldK, j, c.stored))
						copy(rowOf(v, int(position), c.stored), rowOf(heldV, j, c.stored))
					}
				}
				if want := 8 + 2*keep; len(kept) != want {
					t.Fatalf("%s: KV head %d holds %d tokens, want %d", spec, i, len(kept), want)
				}
				choice.Kept = append(choice.Kept, kept)
			}
			desk.Advance(at)
			want := newSequenceEvery(t, c, spec, cache.Budget{Tokens: 150}, 4)
			c.Take(want, desk, choice)
			if g, w := remembering.Held(), want.Held(); g != w || g.Absorbed != 83-2*keep {
				t.Errorf("%s: held %+v, want %+v", spec, g, w)
			}
			for i := range choice.Kept {
				layer, head := i/c.config.KVHeads, i%c.config.KVHeads
				got, want := remembering.State(layer, head), want.State(layer, head)
				if state == cache.Less {
					wind(c.memory.maps[layer].Rates(head), got, want.Clock)
					wind(c.memory.maps[layer].Rates(head), want, got.Clock)
				}
				for name, pair := range map[string][2][]float32{"H": {got.H, want.H}, "Z": {got.Z, want.Z}, "key mean": {got.KeyMean, want.KeyMean},
					"value mean": {got.ValueMean, want.ValueMean}, "covariance": {got.Covariance, want.Covariance}} {
					if diff := worst(pair[0], pair[1]); len(pair[0]) > 0 && !(diff <= 2e-4) {
						t.Errorf("%s: KV head %d: %s differs by %.2g", spec, i, name, diff)
					}
				}
			}
			got := forward(t, c, Work{Sequence: remembering, Tokens: text, Logits: true}).Logits
			if diff := worst(slices.Clone(got), forward(t, c, Work{Sequence: want, Tokens: text, Logits: true}).Logits); !(diff <= 1e-3) {
				t.Errorf("%s: logits differ by %.2g", spec, diff)
			}
			if held := remembering.Held(); held.Bytes > remembering.Plan().Bytes {
				t.Errorf("%s: %d bytes of %d", spec, held.Bytes, remembering.Plan().Bytes)
			}
		}
	}
}

// A memory of all tokens is the passage.
func TestMemoryOfEverything(t *testing.T) {
	c := newCPU(t, tinyPath, Int8, Limits{Tokens: 48, Sequences: 2})
	tokens, places := blending{passages: []int{40}, between: []int{6, 9}, head: 6}.compute(t, c)
	m := memoryOf(t, c, cache.Moment, tokens[:6], tokens[6:46], 40)
	for i := range m.Heads {
		if h, want := &m.Heads[i], &places[0].Passage.Heads[i]; h.Absorbed != 0 || !slices.Equal(h.K, want.K) || !slices.Equal(h.V, want.V) {
			t.Fatalf("KV head %d is not the passage's", i)
		}
	}
	s := newSequenceEvery(t, c, "h2o+moment", cache.Budget{Tokens: 100}, 4)
	forward(t, c, Work{Sequence: s, Tokens: tokens[:6]})
	if err := c.Place(s, m); err != nil {
		t.Fatal(err)
	}
	got := slices.Clone(forward(t, c, Work{Sequence: s, Tokens: tokens[46:], Logits: true}).Logits)
	full := newSequence(t, c, "full", cache.Budget{})
	forward(t, c, Work{Sequence: full, Tokens: tokens[:6]})
	forward(t, c, Work{Sequence: full, Tokens: tokens[6:46]})
	if diff := worst(got, forward(t, c, Work{Sequence: full, Tokens: tokens[46:], Logits: true}).Logits); !(diff <= 0.02) {
		t.Errorf("logits differ by %.2g from the full cache's", diff)
	}
}

// A memory that does not fit is refused, and leaves the sequence as it was; more of
// them than the budget has room for make room for each other.
func checkMemoryRefusals(t *testing.T, c rememberer) *passages.Passage {
	one := conformance{b: c}
	tokens, _ := blending{passages: []int{40}, between: []int{0, 0}}.compute(t, c)
	good := memoryOf(t, c, cache.Moment, nil, tokens, 9)
	spoil := func(f func(h *passages.Head)) *passages.Passage {
		p := *good
		p.Heads = slices.Clone(p.Heads)
		f(&p.Heads[1])
		return &p
	}
	for name, test := range map[string]struct {
		spec string
		p    *passages.Passage
	}{
		"no state": {"h2o", good}, "numbered anew": {"streaming+moment", good}, "full": {"full", good},
		"heads":     {"h2o+moment", &passages.Passage{Tokens: 40, Heads: good.Heads[:1]}},
		"positions": {"h2o+moment", spoil(func(h *passages.Head) { h.Positions = []int32{0, 1, 2, 3, 4, 5, 6, 7, 40} })},
		"falling":   {"h2o+moment", spoil(func(h *passages.Head) { h.Positions = []int32{0, 1, 2, 3, 4, 5, 7, 6, 8} })},
		"fewer":     {"h2o+moment", spoil(func(h *passages.Head) { h.Positions = h.Positions[1:] })},
		"state":     {"h2o+moment", spoil(func(h *passages.Head) { h.State = h.State[1:] })},
		"absorbed":  {"h2o+moment", spoil(func(h *passages.Head) { h.Absorbed = 32 })},
	} {
		s := one.sequence(t, test.spec, cache.Budget{Tokens: 100}, 4)
		if err := c.Place(s, test.p); err == nil || s.Position() != 0 || s.Held().Kept != 0 {
			t.Errorf("%s: %v, at %d", name, err, s.Position())
		}
	}
	s := one.sequence(t, "h2o+moment", cache.Budget{Tokens: 20}, 4)
	for i := range 6 {
		if err := c.Place(s, good); err != nil {
			t.Fatal(err)
		}
		held := s.Held()
		if held.Bytes > s.Plan().Bytes || held.Kept > 24 || held.Kept+held.Evicted != 40*(i+1) || held.Absorbed != held.Evicted {
			t.Fatalf("after %d memories: %+v", i+1, held)
		}
	}
	if err := c.Place(s, good); err == nil { // 280 tokens of 256
		t.Error("a passage beyond the context was placed")
	}
	return good
}

func TestMemoryRefusals(t *testing.T) {
	good := checkMemoryRefusals(t, newCPU(t, tinyPath, Int8, Limits{Tokens: 48, Sequences: 2}))
	turned := newCPU(t, tinyPath, Int8, Limits{Tokens: 48, Sequences: 2})
	if err := turned.UseMaps(syntheticMaps(turned.config, 3, lesskernels.PostRoPE, open)); err != nil {
		t.Fatal(err)
	}
	less := newSequenceEvery(t, turned, "h2o+less", cache.Budget{Tokens: 20}, 4)
	p := *good
	p.Heads = slices.Clone(p.Heads)
	for i := range p.Heads {
		p.Heads[i].State = make([]float32, stateSize(less, turned, i))
	}
	if err := turned.Place(less, &p); !errors.Is(err, ErrNoMemories) {
		t.Errorf("maps of rotated keys: %v", err)
	}
}

// stateSize is how many numbers the state of KV head i has.
func stateSize(s *cache.Sequence, c *CPU, i int) int {
	state := s.State(i/c.config.KVHeads, i%c.config.KVHeads)
	if state == nil {
		panic(fmt.Sprint("no state of KV head ", i))
	}
	return len(state.H) + len(state.Z)
}
