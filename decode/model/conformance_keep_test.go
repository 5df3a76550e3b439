package model

import (
	"reflect"
	"slices"
	"testing"

	"lessrag/decode/cache"
)

// What goes on from a copy of a sequence is what goes on from the sequence, bit for bit; while all tokens are held, from
// every earlier place and under every plan.
func (c *conformance) checkCopies(t *testing.T) {
	const block = 20
	for _, test := range []struct {
		spec, under     string
		tokens, resumed int
	}{{"full", "full", 60, 40}, {"full", "sinks+less", 60, 20}, {"sinks", "full", 20, 20}, {"sinks+less", "sinks+less", 70, 70}, {"streaming+less", "streaming+less", 70, 70},
		{"h2o+less", "h2o+less", 70, 70}, {"tova", "tova", 55, 55}, {"cascade+less", "cascade+less", 70, 70}, {"elastic", "elastic", 70, 70}, {"buzz", "buzz", 70, 70}, {"corm+less", "corm+less", 70, 70}, {"h2o+moment", "h2o+moment", 70, 70}, {"h2o+kivi4", "h2o+kivi4", 70, 70}} {
		take := func(spec string) Sequence {
			budget := cache.Budget{Tokens: 24}
			if spec == "full" {
				budget = cache.Budget{}
			}
			return c.sequence(t, spec, budget, 4)
		}
		feed := func(s Sequence, from, to int) (last []float32) {
			for ; from < to; from += block {
				r := c.forward(t, Work{Sequence: s, Tokens: c.ids[from:min(to, from+block)], Prompt: true, Logits: true})
				last = slices.Clone(r[0].Logits)
			}
			return last
		}
		from := take(test.spec)
		feed(from, 0, test.tokens)
		kept, err := c.b.Copy(from, test.resumed)
		if err != nil {
			t.Fatal(err)
		}
		if held := kept.Held(); held.Bytes != kept.Plan().Bytes || kept.Position() != test.resumed || held.Kept+held.Evicted != test.resumed {
			t.Errorf("%s: a copy after %d tokens holds %+v with a plan of %d bytes", test.spec, test.resumed, held, kept.Plan().Bytes)
		}
		want := take(test.under)
		feed(want, 0, test.resumed)
		s := take(test.under)
		c.b.Adopt(s, kept, test.resumed)
		if err := kept.Free(); err != nil {
			t.Error(err)
		}
		if s.Position() != test.resumed || s.Held() != want.Held() {
			t.Errorf("%s from %s: %+v is held, want %+v", test.under, test.spec, s.Held(), want.Held())
		}
		to := min(len(c.ids), test.resumed+2*block)
		if !slices.Equal(feed(s, test.resumed, to), feed(want, test.resumed, to)) {
			t.Errorf("%s from %s: other logits after %d of %d tokens", test.under, test.spec, test.resumed, test.tokens)
		}
	}
}

// staging takes a sequence that prompts for a cache are staged in.
func (c *conformance) staging(t *testing.T, policy string, state string, tokens int) Sequence {
	t.Helper()
	plan, err := cache.NewStaging(cache.Spec{Policy: policy, State: state}, tokens, c.b.Shape(policy))
	if err != nil {
		t.Fatal(err)
	}
	return c.take(t, plan)
}

// stage feeds a prompt in two blocks, of which the last tokens ask, and lets the policy choose so many tokens of every KV head.
func (c *conformance) stage(t *testing.T, staging Sequence, prompt []int32, question, keep int, weights []float32) cache.Choice {
	t.Helper()
	half := len(prompt) / 2
	c.forward(t, Work{Sequence: staging, Tokens: prompt[:half], Prompt: true})
	c.forward(t, Work{Sequence: staging, Tokens: prompt[half:], Prompt: true, Question: question})
	s := c.b.Staged(staging)
	s.Keep, s.Question, s.End, s.Weights = slices.Repeat([]int{keep}, len(s.Positions)), len(prompt)-question, true, weights
	return cache.ChooserOf(staging.Plan().Spec).Choose(s)
}

// A prompt that is staged, and of which all is taken over, is read as the full cache reads it, whatever was staged and asked before;
// and a probe is forgotten.
func (c *conformance) checkStaging(t *testing.T) {
	const tokens, question, more = 60, 7, 12
	full := c.sequence(t, "full", cache.Budget{}, 0)
	c.run(t, full, c.ids[:tokens/2], tokens/2, true)
	c.run(t, full, c.ids[tokens/2:tokens], tokens/2, true)
	want := c.run(t, full, c.ids[tokens:tokens+more], 1, false)
	for _, spec := range []cache.Spec{{Policy: cache.SnapKV}, {Policy: cache.Vote, State: cache.Less}} {
		staging := c.staging(t, spec.Policy, spec.State, 80)
		first := c.stage(t, staging, c.ids[40:110], question, 30, nil)
		c.b.Retain(staging, first) // and gives up the rest
		if held := staging.Held(); held.Kept+held.Evicted != 70 || held.Evicted == 0 {
			t.Errorf("%s: %+v is held after giving up", spec, held)
		}
		c.forward(t, Work{Sequence: staging, Tokens: c.ids[:3], Prompt: true, Question: 3})
		c.b.Reset(staging)
		before := staging.Held()
		if before.Kept+before.Evicted+before.Absorbed != 0 || staging.Position() != 0 {
			t.Errorf("%s: %+v is held after a reset", spec, before)
		}
		c.forward(t, Work{Sequence: staging, Tokens: c.ids[100:110], Prompt: true, Question: 5, Probe: true})
		if after := staging.Held(); after != before || staging.Position() != 0 {
			t.Errorf("%s: %+v is held after a probe of nothing", spec, after)
		}
		choice := c.stage(t, staging, c.ids[:tokens], question, 100, nil)
		s := c.sequence(t, spec.String(), cache.Budget{Tokens: 100}, 4)
		c.b.Take(s, staging, choice)
		if held := s.Held(); held.Kept != tokens || held.Evicted != 0 || s.Position() != tokens {
			t.Fatalf("%s: %+v is held of %d tokens", spec, held, tokens)
		}
		for i, row := range c.run(t, s, c.ids[tokens:tokens+more], 1, false) {
			if !slices.Equal(row, want[i]) {
				t.Errorf("%s: other logits than the full cache, %d tokens after the prompt", spec, i+1)
				break
			}
		}
	}
}

// What a question chose goes on alone as beside others, whatever was staged before, and evicts within its plan, token by token
// and in blocks that are larger than its interval.
func (c *conformance) checkStagedAnswers(t *testing.T) {
	const tokens, question, more = 90, 7, 30
	weights := make([]float32, c.b.Config().Layers*c.b.Config().KVHeads) // some heads find answers
	for i := range weights {
		weights[i] = float32(i%3) / 2
	}
	for _, spec := range []string{"snapkv+less", "vote+less"} {
		parsed, _ := cache.ParseSpec(spec)
		staging := c.staging(t, parsed.Policy, parsed.State, 100)
		stage := func() cache.Choice { return c.stage(t, staging, c.ids[:tokens], question, 40, weights) }
		choice := stage()
		take := func() Sequence {
			shape := c.b.Shape(parsed.Policy)
			shape.Interval = 3
			plan, err := cache.NewPlan(parsed, cache.Budget{Tokens: 40}, shape)
			if err == nil && choice.Keep != nil {
				plan, err = plan.Divide(choice.Keep)
			}
			if err != nil {
				t.Fatal(err)
			}
			s := c.take(t, plan)
			c.b.Take(s, staging, choice)
			return s
		}
		alone := take()
		c.b.Retain(staging, choice) // and another prompt, which is the same
		c.b.Reset(staging)
		if again := stage(); !reflect.DeepEqual(again, choice) {
			t.Errorf("%s: another choice after a reset", spec)
		}
		beside, blocks := take(), take()
		other := c.sequence(t, "full", cache.Budget{}, 0)
		var want [][]float32
		for _, id := range c.ids[tokens : tokens+more] {
			want = append(want, slices.Clone(c.forward(t, Work{Sequence: alone, Tokens: []int32{id}, Logits: true})[0].Logits))
		}
		for i, id := range c.ids[tokens : tokens+more] {
			r := c.forward(t, Work{Sequence: other, Tokens: c.ids[i : i+1], Logits: true}, Work{Sequence: beside, Tokens: []int32{id}, Logits: true})
			if !slices.Equal(r[1].Logits, want[i]) {
				t.Fatalf("%s: other logits in a batch than alone, %d tokens after the prompt", spec, i+1)
			}
		}
		for at := tokens; at < tokens+more; at += 10 { // more than there is room for
			c.forward(t, Work{Sequence: blocks, Tokens: c.ids[at : at+10]})
		}
		for _, s := range []Sequence{alone, beside, blocks} {
			if held := s.Held(); held.Bytes > s.Plan().Bytes || held.Kept > 43 || held.Kept+held.Evicted < tokens+more-1 || held.Absorbed != held.Evicted {
				t.Errorf("%s: %+v is held with a plan of %d bytes", spec, held, s.Plan().Bytes)
			}
		}
	}
}
