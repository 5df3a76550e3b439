package cache

import (
	"errors"
	"testing"
)

var shape = Shape{Layers: 30, KVHeads: 3, HeadDim: 64, Context: 8192, Interval: 16}

func TestNewPlan(t *testing.T) {
	const token = 30 * 3 * (2*2*64 + 4)
	if shape.TokenBytes() != token {
		t.Fatalf("a token takes %d bytes, want %d", shape.TokenBytes(), token)
	}
	full, sinks := Spec{Policy: Full}, Spec{Policy: Sinks}
	for _, test := range []struct {
		name        string
		spec        Spec
		budget      Budget
		keep, slots int
	}{
		{"full, whole context", full, Budget{}, 8192, 8192},
		{"zero spec is full", Spec{}, Budget{}, 8192, 8192},
		{"full, tokens", full, Budget{Tokens: 700}, 700, 700},
		{"full, more tokens than context", full, Budget{Tokens: 9000}, 8192, 8192},
		{"full, percent", full, Budget{Percent: 50}, 4096, 4096},
		{"full, bytes", full, Budget{Bytes: 100*token + 7}, 100, 100},
		{"sinks, default", sinks, Budget{}, 819, 835},
		{"sinks, percent rounds down", sinks, Budget{Percent: 5}, 409, 425},
		{"sinks, tokens and the interval on top", sinks, Budget{Tokens: 128}, 128, 144},
		{"sinks, the smallest", sinks, Budget{Tokens: 5}, 5, 21},
		{"sinks, bytes hold the interval too", sinks, Budget{Bytes: 100 * token}, 84, 100},
		{"sinks, no more slots than context", sinks, Budget{Tokens: 8190}, 8190, 8192},
		{"sinks, more than context", sinks, Budget{Tokens: 10000}, 8192, 8192},
	} {
		p, err := NewPlan(test.spec, test.budget, shape)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if p.Keep != test.keep || len(p.Slots) != 90 || p.Slots[89] != test.slots || p.Bytes != int64(test.slots)*token {
			t.Errorf("%s: keep %d, slots %d, %d bytes; want %d, %d, %d",
				test.name, p.Keep, p.Slots[89], p.Bytes, test.keep, test.slots, test.slots*token)
		}
	}
}

// Renumbered, two tokens are never further apart than the context.
func TestStreamingStaysInsideTheContext(t *testing.T) {
	for _, budget := range []Budget{{Percent: 100}, {Tokens: 8190}, {Tokens: 8176}} {
		p, err := NewPlan(Spec{Policy: Streaming}, budget, shape)
		if err != nil || p.Keep != 8176 || p.Slots[0] != 8192 {
			t.Errorf("%s: keep %d, slots %v, %v", budget, p.Keep, p.Slots[:1], err)
		}
	}
}

func TestNewPlanRefuses(t *testing.T) {
	sinks := Spec{Policy: Sinks}
	for name, test := range map[string]struct {
		spec   Spec
		budget Budget
		shape  Shape
	}{
		"too few tokens":    {sinks, Budget{Tokens: 4}, shape},
		"too few bytes":     {sinks, Budget{Bytes: 21*shape.TokenBytes() - 1}, shape},
		"one byte":          {Spec{Policy: Full}, Budget{Bytes: 1}, shape},
		"negative tokens":   {sinks, Budget{Tokens: -7}, shape},
		"percent above 100": {sinks, Budget{Percent: 200}, shape},
		"percent of little": {sinks, Budget{Percent: 0.01}, shape},
		"no layers":         {sinks, Budget{Tokens: 64}, Shape{KVHeads: 1, HeadDim: 1, Context: 1}},
	} {
		_, err := NewPlan(test.spec, test.budget, test.shape)
		var wrong *PlanError
		if !errors.As(err, &wrong) {
			t.Errorf("%s: %v, want a *PlanError", name, err)
		}
	}
	_, err := NewPlan(Spec{Policy: "buzz", Bits: 3}, Budget{}, shape)
	var missing *UnavailableError
	if !errors.As(err, &missing) {
		t.Errorf("buzz+kivi3: %v, want an *UnavailableError", err)
	}
}

// A ledger has the slots of the plan that it decides for, one set of them where nothing is observed; and
// what is held is counted as a sequence counts it.
func TestLedger(t *testing.T) {
	shape := Shape{Layers: 2, KVHeads: 3, HeadDim: 64, Context: 100, Interval: 4, Group: 2, Ranks: []int{8, 0, 8, 8, 8, 8}}
	for policy, heads := range map[string]int{Sinks: 1, Streaming: 1, H2O: 6, TOVA: 6} {
		p, err := NewPlan(Spec{Policy: policy, State: Less}, Budget{Tokens: 20}, shape)
		if err != nil {
			t.Fatal(err)
		}
		ledger := p.Ledger()
		if len(ledger.Slots) != heads || ledger.Slots[0] != p.Slots[0] || ledger.Keeps[0] != p.Keeps[0] || ledger.Interval != p.Interval || ledger.Bytes > p.Bytes/8 {
			t.Errorf("%s: %+v of %+v", policy, ledger, p)
		}
		handlers := Handlers{Turn: func(_, _ []uint16, _ int) {}}
		s, err := NewSequence(p, handlers, &Scratch{})
		if err != nil {
			t.Fatal(err)
		}
		books, err := NewSequence(ledger, handlers, &Scratch{})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{7, 30, 3} {
			for _, x := range []*Sequence{s, books} {
				shape := x.plan.Shape
				k := make([]uint16, shape.KVHeads*n*shape.HeadDim)
				for layer := range shape.Layers {
					x.MakeRoom(layer, n)
					if !x.Fits(layer, n) {
						x.Insert(layer, k, k, nil)
						continue
					}
					for head := range shape.KVHeads {
						x.Append(layer, head, k[:n*shape.HeadDim], k[:n*shape.HeadDim])
					}
				}
				x.Advance(n)
			}
			if got, want := books.HeldOf(p), s.Held(); got != want {
				t.Errorf("%s, %d tokens more: held %+v, want %+v", policy, n, got, want)
			}
		}
		s.Free()
		books.Free()
	}
}
