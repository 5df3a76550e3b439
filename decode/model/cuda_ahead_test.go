package model

import (
	"testing"

	"lessrag/decode/cache"
)

// What is given up by attention is decided of all layers before a pass begins: the processor waits for what tokens got in
// earlier passes, once for each sequence, and for the logits, and all tables are uploaded in one piece.
func TestCUDADecidesAhead(t *testing.T) {
	deep := quantised
	deep.Layers, deep.Context = 30, 400
	d, c := countedCard(t, deep, Limits{Tokens: 8, Sequences: 2}, true)
	one := conformance{b: c}
	for _, spec := range []string{"h2o", "tova", "buzz", "cascade", "corm", "elastic", "h2o+kivi4", "elastic+kivi2"} {
		t.Run(spec, func(t *testing.T) {
			budget := 30
			if parsed, err := cache.ParseSpec(spec); err != nil || parsed.Packs() {
				budget = 200
			}
			s, other := one.sequence(t, spec, cache.Budget{Tokens: budget}, 4), one.sequence(t, spec, cache.Budget{Tokens: budget}, 4)
			decisions := 0
			for from := 0; from < budget+100; from++ {
				d.launches, d.waits, d.uploads = 0, 0, 0
				before := s.Held().Evicted
				one.forward(t, Work{Sequence: s, Tokens: []int32{1}, Logits: true}, Work{Sequence: other, Tokens: []int32{1}})
				waits := 1
				if d.launches > 0 { // it did not run from a graph
					waits = 3
				}
				if s.Held().Evicted > before {
					decisions++
				}
				if first := from == 0 || s.Held().Evicted > 0 && before == 0; first { // for which the tables grow
					continue
				}
				if d.waits != waits || d.uploads != 1 {
					t.Fatalf("the step at %d: %d waits and %d uploads, want %d and 1", from, d.waits, d.uploads, waits)
				}
			}
			if t.Logf("%d evictions", decisions); decisions < 2 {
				t.Errorf("%d evictions", decisions)
			}
		})
	}
}
