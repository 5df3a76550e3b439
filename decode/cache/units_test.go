package cache

import (
	"math"
	"testing"
)

// Units: groups go by their mean, one that does not fit gives way, one that is protected
// is kept.
func TestKeepUnits(t *testing.T) {
	inf := float32(math.Inf(1))
	scores := make([]float32, 2+2*GroupTokens+3)
	for i := range scores {
		switch {
		case i < 2:
			scores[i] = 1
		case i < 2+GroupTokens:
			scores[i] = 3
		case i < 2+2*GroupTokens:
			scores[i] = 2
		default:
			scores[i] = float32(i)
		}
	}
	count := func(keep int) (n int, kept []int32) {
		kept = keepUnits(nil, appendUnits(nil, scores, 2, 2), keep)
		return len(kept), kept
	}
	for keep, want := range map[int]int{0: 0, 2: 2, 5: 5, 34: 5, 35: 35, 37: 37, 66: 37, 67: 67, 69: 69} {
		if n, kept := count(keep); n != want {
			t.Errorf("of %d kept %d: %v", keep, n, kept)
		}
	}
	scores[2+GroupTokens+9] = inf
	if _, kept := count(GroupTokens); kept[0] != 2+GroupTokens {
		t.Errorf("a protected token's group is not kept: %v", kept)
	}
}
