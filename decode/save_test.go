package decode

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/model"
)

// A sequence that is saved, freed and restored goes on to the same logits, bit for
// bit, state and statistics included.
func TestSavedSequencesGoOnAlike(t *testing.T) {
	e := openSmall(t, Options{Interval: 4}, smallMaps())
	backend := e.backend.(*model.CPU)
	tokens := smallTokens(5, 300)
	for _, name := range []string{"full", "sinks+less", "streaming+less", "h2o+moment", "tova+less", "snapkv", "vote+moment",
		"full+kivi4", "full+kivi2+think", "sinks+less+kivi4+think", "h2o+less+kivi2", "streaming+moment+think", "vote+kivi4"} {
		plan, err := e.Plan(spec(t, name), cache.Budget{Tokens: 180})
		if !spec(t, name).Bounded() {
			plan, err = e.Plan(spec(t, name), cache.Budget{Tokens: 400})
		}
		if err != nil {
			t.Fatal(err)
		}
		run := func(saved bool) (logits [][]float32, failure error) {
			s, err := backend.NewSequence(plan)
			if err != nil {
				return nil, err
			}
			for at := 0; at < len(tokens); {
				n := 1
				if at < 250 {
					n = 25
				}
				if saved && at == 225 || saved && at == 270 {
					var file bytes.Buffer
					if err := errors.Join(backend.Save(&file, s, "small"), s.Free()); err != nil {
						return nil, err
					}
					if s, err = backend.Restore(&file, "small", 4, plan.Bytes); err != nil {
						return nil, err
					}
				}
				r, err := backend.Forward([]model.Work{{Sequence: s, Tokens: tokens[at : at+n], Logits: true}})
				if err != nil {
					return nil, err
				}
				logits = append(logits, slices.Clone(r[0].Logits))
				at += n
			}
			return logits, s.Free()
		}
		err = e.do(context.Background(), func(Backend) {
			want, err := run(false)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			got, err := run(true)
			if err != nil || !slices.EqualFunc(got, want, func(a, b []float32) bool { return slices.Equal(a, b) }) {
				t.Errorf("%s: other logits after it was restored, %v", name, err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
