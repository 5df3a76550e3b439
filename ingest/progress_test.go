package ingest

import (
	"math"
	"testing"
	"time"
)

func TestEstimate(t *testing.T) {
	seconds := func(s float64) *time.Duration {
		d := time.Duration(s * float64(time.Second))
		return &d
	}
	for _, c := range []struct {
		left, worked, seconds float64
		want                  *time.Duration
	}{
		{100, 50, 10, seconds(20)},
		{0, 50, 10, seconds(0)},
		{100, 0, 10, nil},
		{100, 50, 0, nil},
		{100, math.NaN(), 10, nil},
		{1e18, 1, 1e6, seconds(365 * 24 * 3600)},
	} {
		got := estimate(c.left, c.worked, c.seconds)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%g left after %g in %g s: %v, want %v", c.left, c.worked, c.seconds, got, c.want)
		}
	}
}
