package model

import (
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/lesskernels"
)

// A prompt that is staged in two chunks, with a probe between them, and then moved
// to a sequence of its own: every token attends to what was kept, exactly, and by the
// state to everything that was given up, once.
func TestStaged(t *testing.T) {
	for _, policy := range []string{"snapkv", "vote"} {
		c := synthetic(t, Int8, 64, 3, 2, 300)
		maps := syntheticMaps(c.config, 5, lesskernels.PreRoPE, open)
		if err := c.UseMaps(maps); err != nil {
			t.Fatal(err)
		}
		const question = 6
		r := newLayerRun(t, c, policy+"+less", cache.Budget{Tokens: 40}, 5, 190)
		own := r.s
		plan, err := cache.NewStaging(own.Plan().Spec, 110, own.Plan().Shape)
		if err != nil {
			t.Fatal(err)
		}
		staging, err := c.NewSequence(plan)
		if err != nil {
			t.Fatal(err)
		}
		defer staging.Free()
		choose := func(keep int, end bool) cache.Choice {
			s := c.Staged(staging)
			s.Keep, s.Question, s.End = slices.Repeat([]int{keep}, 2), r.s.Position()-question, end
			if !end {
				s.Question = r.s.Position()
			}
			return cache.NewPolicy(plan.Spec).(cache.Chooser).Choose(s)
		}

		r.s = staging.(*cache.Sequence)
		r.feed(60)
		r.feed(40)
		before := r.s.Held()
		r.probe(question)
		if after := r.s.Held(); after != before || r.s.Position() != 100 {
			t.Fatalf("%s: held %+v before a probe and %+v after it", policy, before, after)
		}
		c.Retain(staging, choose(50, false))
		if held := r.s.Held(); held.Kept != 50 || held.Absorbed != 50 {
			t.Fatalf("%s: held %+v after giving up half", policy, held)
		}
		r.feed(40)
		r.question = question
		r.feed(question)
		choice := choose(40, true)
		c.Take(own, staging, choice)
		r.s, r.question = own, 0
		if held := own.Held(); held.Kept > 45 || held.Kept+held.Absorbed != 146 || held.Evicted != held.Absorbed {
			t.Fatalf("%s: held %+v of 146 tokens", policy, held)
		}
		for i, kept := range choice.Kept {
			var positions []int32
			for _, at := range kept {
				positions = append(positions, c.Staged(staging).Positions[i][at])
			}
			if !slices.Equal(own.Positions(0, i), positions) {
				t.Fatalf("%s: KV head %d took %v, chosen %v", policy, i, own.Positions(0, i), positions)
			}
		}
		c.Reset(staging)
		if held := staging.Held(); held.Kept != 0 || held.Absorbed != 0 || staging.Position() != 0 {
			t.Errorf("%s: a staging sequence that was reset holds %+v", policy, held)
		}
		for own.Position() < 190 {
			r.feed(1)
		}
		if held := own.Held(); held.Kept+held.Absorbed != 190 || held.Bytes > own.Plan().Bytes {
			t.Errorf("%s: held %+v of 190 tokens", policy, held)
		}
		r.near(r.masked(maps, r.less(maps)), 1e-5)
	}
}
