package cache

import (
	"slices"
	"testing"
)

// adopt is a feeder that goes on from another's first n tokens, by way of a copy.
func (f *feeder) adopt(t *testing.T, from *feeder, n int) {
	t.Helper()
	c, err := from.s.Copy(n)
	if err != nil {
		t.Fatal(err)
	}
	if held := c.Held().Bytes; held != c.Plan().Bytes || int64(len(c.memory.bytes)) != held {
		t.Errorf("a copy of %d bytes in %d, planned %d", held, len(c.memory.bytes), c.Plan().Bytes)
	}
	f.s.Adopt(c, n)
	if err := c.Free(); err != nil {
		t.Error(err)
	}
}

// A sequence that goes on from the beginning of another holds in the end what one
// holds that was fed everything, and both hand the same over.
func TestAdopt(t *testing.T) {
	shape := Shape{Layers: 2, KVHeads: 2, HeadDim: 6, Context: 200, Interval: 3}
	for _, test := range []struct {
		name     string
		from, to Spec
		budget   int // of to; from has 40
		fed, n   int
	}{
		{"full, all of it", Spec{}, Spec{}, 90, 21, 21},
		{"full, a part", Spec{}, Spec{}, 90, 30, 7},
		{"sinks that evicted nothing, a part", Spec{Policy: Sinks}, Spec{Policy: Sinks}, 40, 40, 33},
		{"another plan", Spec{Policy: Sinks}, Spec{Policy: Sinks}, 12, 40, 15},
		{"sinks from full", Spec{}, Spec{Policy: Sinks}, 12, 30, 11},
		{"sinks that evicted", Spec{Policy: Sinks}, Spec{Policy: Sinks}, 40, 77, 77},
	} {
		from := newFeeder(t, test.from, Budget{Tokens: 40}, shape)
		feedBy(from, test.fed)
		to, whole := newFeeder(t, test.to, Budget{Tokens: test.budget}, shape), newFeeder(t, test.to, Budget{Tokens: test.budget}, shape)
		feedBy(whole, test.n)
		to.adopt(t, from, test.n)
		for i := range to.absorbed {
			for position, times := range whole.absorbed[i] {
				to.absorbed[i][position] = times
			}
		}
		to.verify()
		if to.s.Position() != test.n || to.s.Held() != whole.s.Held() {
			t.Errorf("%s: at %d holds %+v, want %+v", test.name, to.s.Position(), to.s.Held(), whole.s.Held())
		}
		feedBy(to, 20)
		feedBy(whole, 20)
		for layer := range shape.Layers {
			for head := range shape.KVHeads {
				if got, want := to.s.Positions(layer, head), whole.s.Positions(layer, head); !slices.Equal(got, want) {
					t.Errorf("%s: holds %v, want %v", test.name, got, want)
				}
			}
		}
	}
}

// feedBy feeds n tokens in blocks of up to 5.
func feedBy(f *feeder, n int) {
	for ; n > 0; n -= 5 {
		f.feed(min(5, n))
	}
}

func TestAdoptRefuses(t *testing.T) {
	shape := Shape{Layers: 1, KVHeads: 1, HeadDim: 2, Context: 100}
	evicted := newFeeder(t, Spec{Policy: Sinks}, Budget{Tokens: 10}, shape)
	feedBy(evicted, 30)
	for name, n := range map[string]int{"fewer tokens than it was fed, after evictions": 20, "more than it was fed": 31} {
		to := newFeeder(t, Spec{Policy: Sinks}, Budget{Tokens: 10}, shape)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: adopted", name)
				}
			}()
			to.s.Adopt(evicted.s, n)
		}()
	}
	if (Plan{Slots: []int{5, 3, 4}, Spec: Spec{Policy: H2O}}).Plain() != 0 || (Plan{Slots: []int{5, 3, 4}, Spec: Spec{Policy: Sinks}}).Plain() != 3 {
		t.Error("which plans are plain")
	}
}
