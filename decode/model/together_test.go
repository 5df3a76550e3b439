package model

import (
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/lesskernels"
)

// TestTogether compares steps of answers whose layers are one program of all threads with
// those of a pass stage by stage, bit by bit: of caches that watch, evict, absorb and
// pack, and of one with keys in several spans.
func TestTogether(t *testing.T) {
	c := newCPU(t, readerPath(), Int8, Limits{Tokens: 512, Sequences: 8})
	if err := c.UseMaps(syntheticMaps(c.config, 8, lesskernels.PreRoPE, open)); err != nil {
		t.Fatal(err)
	}
	programs := c.programs
	tokens := make([]int32, 1100)
	for i := range tokens {
		tokens[i] = int32(1000 + i*37%40000)
	}
	specs := []string{"full", "sinks+less", "h2o+less", "tova+kivi4", "streaming+less+kivi2", "corm", "h2o+think40"}
	run := func(together bool, prompt int, specs ...string) (logits []float32) {
		c.programs = programs
		works := make([]Work, len(specs))
		for i, spec := range specs {
			budget := cache.Budget{Tokens: max(64, prompt/2)}
			if spec == "full" {
				budget.Tokens = 2 * prompt
			}
			works[i].Sequence = newSequenceEvery(t, c, spec, budget, 4)
			for at := i; at < prompt; {
				n := min(100, prompt-at)
				forward(t, c, Work{Sequence: works[i].Sequence, Tokens: tokens[at : at+n], Prompt: true})
				at += n
			}
		}
		if !together {
			c.programs = nil
		}
		for at := range 9 {
			for i := range works {
				works[i].Tokens, works[i].Logits = tokens[at+i:at+i+1], true
			}
			results, err := c.Forward(works)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.together(&c.batch); got != (together && !slices.Contains(specs, "h2o+think40")) {
				t.Fatalf("%v: the step is one program: %v", specs, got)
			}
			for _, r := range results {
				logits = append(logits, r.Logits...)
			}
		}
		return logits
	}
	for _, test := range []struct {
		prompt int
		specs  []string
	}{{100, specs[:1]}, {100, specs[1:3]}, {100, specs[:6]}, {100, specs}, {1100, specs[:2]}} {
		if !slices.Equal(run(true, test.prompt, test.specs...), run(false, test.prompt, test.specs...)) {
			t.Errorf("%v behind %d tokens: one program gives other logits", test.specs, test.prompt)
		}
	}
}
