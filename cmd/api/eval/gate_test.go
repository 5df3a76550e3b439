package eval

import (
	"math"
	"testing"
)

// A gate is the means and the median ratio of one share's questions; memories and other shares do not count.
func TestNewGate(t *testing.T) {
	gate := newGate(0.15, []BlendTried{
		{Share: 0.15, FullF1: 0.2, BlendF1: 0.4, FullNLL: 1, BlendNLL: 2, FullMS: 40, BlendMS: 10},
		{Share: 0.15, FullF1: 0.4, BlendF1: 0.2, FullNLL: 3, BlendNLL: 3, FullMS: 60, BlendMS: 10},
		{Share: 0.15, FullF1: 0.6, BlendF1: 0.9, FullNLL: 5, BlendNLL: 4, FullMS: 90, BlendMS: 10},
		{Share: 0.15, Memory: 0.1, FullF1: 9, FullNLL: 9, FullMS: 1, BlendMS: 10},
		{Share: 0.3, FullF1: 9, FullNLL: 9, FullMS: 1, BlendMS: 10},
	})
	for name, x := range map[string][2]float64{"F1 whole": {gate.FullF1, 0.4}, "blended": {gate.BlendF1, 0.5}, "NLL whole": {gate.FullNLL, 3}, "NLL blended": {gate.BlendNLL, 3}, "sooner": {gate.Speedup, 6}} {
		if !(math.Abs(x[0]-x[1]) <= 1e-12) {
			t.Errorf("%s: %v, want %v", name, x[0], x[1])
		}
	}
	if gate.Questions != 3 || gate.Share != 0.15 {
		t.Errorf("%+v", gate)
	}
}
