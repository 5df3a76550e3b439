package cache

import (
	"fmt"
	"slices"
	"testing"

	"lessrag/lesskernels"
)

// What CORM remembers of a key is when it was last important, by a bitmap of all steps
// and keys from the definition; and some key is important at every step.
func TestCORMRemembersTheLastImportantStep(t *testing.T) {
	const tokens = 70
	q, k, v := noise(tokens, 4)
	important := make([][tokens + 1][tokens]bool, vKVHeads) // [kvHeads][step from 1][token]
	for head := range vKVHeads {
		for token := range tokens {
			for g := range vGroup {
				query := turned(q[(token*vHeads+head*vGroup+g)*vDim:][:vDim], token)
				var keys []float32
				single := make([]float32, vDim)
				for j := range token + 1 {
					for _, x := range turned(k[(j*vKVHeads+head)*vDim:][:vDim], j) {
						keys = append(keys, float32(x))
					}
				}
				for i, x := range query {
					single[i] = float32(x)
				}
				_, weights := lesskernels.Attend(single, keys, keys, 0.25)
				for j, p := range weights {
					important[head][token+1][j] = important[head][token+1][j] || p >= 1/float64(token+1)
				}
			}
		}
	}
	for _, blocks := range [][]int{{1}, {13, 1, 1, 40}} {
		r := newStoredRun(t, CORM, tokens, 1, q, k, v).all(blocks...)
		for head := range vKVHeads {
			for token, last := range r.s.head(0, head).attention[:tokens] {
				want := 0
				for step := range tokens + 1 {
					if important[head][step][token] {
						want = step
					}
				}
				if int(last) != want {
					t.Errorf("blocks of %v, KV head %d: token %d was last important at %v, want %d", blocks, head, token, last, want)
				}
			}
			for step := 1; step <= tokens; step++ {
				if !slices.Contains(important[head][step][:], true) {
					t.Errorf("KV head %d: no key is important at step %d", head, step)
				}
			}
		}
	}
}

// While the window of queries, or the recent tokens, reach back to the first token,
// nothing is evicted; a shorter one evicts.
func TestCORMReachesBack(t *testing.T) {
	const tokens = 90
	q, k, v := noise(tokens, 5)
	full := newStoredRun(t, Full, 0, 0, q, k, v).all(1).out
	for _, test := range []struct {
		window, keep int
		full         bool
	}{{tokens, tokens, true}, {1, 2 * tokens, true}, {3, tokens, false}} {
		r := newStoredRun(t, CORM, test.keep, 1, q, k, v)
		r.s.policy = corm{window: test.window}
		r.all(1)
		if got := slices.Equal(r.out, full); got != test.full {
			t.Errorf("window %d, budget %d: full attention: %v", test.window, test.keep, got)
		}
	}
}

// Where its rule keeps too much, the budget holds, and the sinks and the recent tokens.
func TestCORMUnderItsCap(t *testing.T) {
	s := Statistics{Position: 100, Keep: 30}
	for i := range 100 {
		s.Positions, s.Attention = append(s.Positions, int32(i)), append(s.Attention, 90)
	}
	s.Attention[40], s.Attention[50] = 100, 99
	kept := corm{window: 20}.Decide(nil, s)
	want := append([]int32{0, 1, 2, 3, 40, 50}, rangeOf(76, 100)...)
	if !slices.Equal(kept, want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
	s.Keep = 1000
	if kept := (corm{window: 5}).Decide(nil, s); !slices.Equal(kept, rangeOf(0, 100)) {
		t.Errorf("recent tokens went: %v", kept)
	}
	s.Keep = 60
	if kept := fmt.Sprint(corm{window: 5}.Decide(nil, s)); kept != fmt.Sprint(append([]int32{40, 50}, rangeOf(70, 100)...)) {
		t.Errorf("kept %s", kept)
	}
}

func rangeOf(from, to int32) []int32 {
	var list []int32
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}
