package cache

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// combinations are all Specs that parse, of policies, states, precisions and pruned
// channels; refused counts the others.
func combinations() (specs []Spec, refused int) {
	for _, policy := range policies {
		for _, state := range []string{"", "+less", "+moment"} {
			for _, bits := range []string{"", "+kivi4", "+kivi2"} {
				for _, think := range []string{"", "+think"} {
					spec, err := ParseSpec(policy + state + bits + think)
					if err != nil {
						refused++
						continue
					}
					specs = append(specs, spec)
				}
			}
		}
	}
	return specs, refused
}

// Every combination that is not refused holds to the byte what its Plan says, hands
// every token over once, and is itself again after Save and Restore, and as a Copy.
func TestEveryCombination(t *testing.T) {
	specs, refused := combinations()
	if want := len(policies) * 18; len(specs)+refused != want || refused != 12+2*12+2*15 {
		t.Errorf("%d combinations and %d refused, of %d", len(specs), refused, want)
	}
	for _, spec := range specs {
		budget := Budget{Tokens: 300}
		if !spec.Bounded() {
			budget.Tokens = 700
		}
		f := newCombined(t, spec, budget)
		p := f.s.plan
		if used := f.allocated(); used != p.Bytes || int64(len(f.s.memory.bytes)) != p.Bytes || int64(f.s.memory.used) != p.Bytes {
			t.Errorf("%s: parts of %d bytes in %d taken, planned %d", spec, used, len(f.s.memory.bytes), p.Bytes)
		}
		random := rand.New(rand.NewPCG(5, 6))
		for f.s.Position() < 500 {
			f.feed(1 + random.IntN(40))
		}
		f.feed(128)
		for f.s.Position() < 690 {
			f.feed(1)
		}
		f.verify()
		var data bytes.Buffer
		if err := f.s.Save(&data, "model"); err != nil {
			t.Fatal(err)
		}
		restored, err := Restore(bytes.NewReader(data.Bytes()), "model", func(string) Shape { return combinedShape }, p.Bytes, f.s.handlers, &Scratch{})
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		copied, err := f.s.Copy(f.s.Position())
		if err != nil {
			t.Fatal(err)
		}
		if held := f.s.Held().Bytes; copied.Plan().Bytes != held || copied.Held().Bytes != held {
			t.Errorf("%s: a copy of %d bytes in %d, of a sequence that holds %d", spec, copied.Held().Bytes, copied.Plan().Bytes, held)
		}
		adopted := combinedOf(t, p)
		adopted.s.Adopt(copied, f.s.Position())
		for name, other := range map[string]*Sequence{"restored": restored, "adopted": adopted.s} {
			var again bytes.Buffer
			if err := other.Save(&again, "model"); err != nil || !bytes.Equal(again.Bytes(), data.Bytes()) {
				t.Errorf("%s: %s, it is another: %v", spec, name, err)
			}
		}
		if err := restored.Free(); err != nil {
			t.Error(err)
		}
		if err := copied.Free(); err != nil {
			t.Error(err)
		}
		f.s.Free()
		adopted.s.Free()
	}
}

// A budget in bytes holds everything, and one group more would not fit.
func TestBudgetInBytesOfEveryCombination(t *testing.T) {
	specs, _ := combinations()
	for _, spec := range specs {
		for _, bytes := range []int64{100_000, 333_333, 2_000_000} {
			p, err := NewPlan(spec, Budget{Bytes: bytes}, combinedShape)
			if err != nil {
				t.Fatalf("%s in %d bytes: %v", spec, bytes, err)
			}
			unit := p.tokenBytes()
			if p.Groups[0] > 0 {
				unit = 0
				for i := range p.Slots {
					unit += p.groupBytes(i) + GroupTokens*p.noteBytes()
				}
			}
			if p.Bytes > bytes || p.Bytes+unit <= bytes && p.Slots[0] < combinedShape.Context {
				t.Errorf("%s: %d bytes planned of %d, and %d make one more", spec, p.Bytes, bytes, unit)
			}
		}
	}
}

// Until something is packed, a cache is its 16-bit twin, slot for slot.
func TestRecentTokensAreWhole(t *testing.T) {
	for _, text := range []string{"full+kivi2+think", "h2o+kivi4", "sinks+think"} {
		spec, err := ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		f := newCombined(t, spec, Budget{Tokens: 500})
		for f.s.Position() < looseTokens {
			f.feed(1)
		}
		f.verify()
		if packed := f.s.Packed(1, 1); len(packed.Groups) > 0 || f.s.plan.Plain() != looseTokens && spec.Policy != H2O {
			t.Errorf("%s: %d tokens, some of them packed; plain up to %d", text, f.s.Position(), f.s.plan.Plain())
		}
		f.feed(1)
		if packed := f.s.Packed(1, 1); len(packed.Groups) != packed.Words() {
			t.Errorf("%s: %d tokens, and %d words packed", text, f.s.Position(), len(packed.Groups))
		}
	}
}

// Tokens that come one by one are packed to the same codes as a prompt in blocks, where
// channels are chosen from the same queries.
func TestStreamingEqualsBulk(t *testing.T) {
	for _, text := range []string{"full+kivi4", "full+kivi2", "full+kivi2+think"} {
		spec, err := ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		one, bulk := newCombined(t, spec, Budget{Tokens: 500}), newCombined(t, spec, Budget{Tokens: 500})
		for one.s.Position() < 400 {
			one.feed(1)
		}
		if spec.Think > 0 { // chosen from the same keys
			bulk.feed(looseTokens)
		}
		for bulk.s.Position() < 400 {
			bulk.feed(min(100, 400-bulk.s.Position()))
		}
		for i := range one.s.heads {
			a, b := &one.s.heads[i], &bulk.s.heads[i]
			n := min(a.settled, b.settled) * one.s.packing.Words()
			if a.settled < 8 || b.settled < 8 || !slices.Equal(a.groups[:n], b.groups[:n]) || !slices.Equal(a.channels, b.channels) {
				t.Errorf("%s: KV head %d: %d and %d groups differ, or channels %v and %v", text, i, a.settled, b.settled, a.channels, b.channels)
			}
		}
	}
}

// Where a policy that scores holds no more than its budget, an eviction would change nothing,
// and none takes place.
func TestNothingToEvict(t *testing.T) {
	specs, _ := combinations()
	within := 0
	for _, spec := range specs {
		if _, ok := NewPolicy(spec).(Decider); ok || !spec.Bounded() {
			continue
		}
		f := newCombined(t, spec, Budget{Tokens: 300})
		save := func() []byte {
			var data bytes.Buffer
			if err := f.s.Save(&data, "model"); err != nil {
				t.Fatal(err)
			}
			return data.Bytes()
		}
		for _, n := range []int{128, 128, 128, 128, 3, 5, 9, 128, 1, 14, 128} {
			f.feed(n)
			before := save()
			for layer := range combinedShape.Layers {
				if f.s.exceeds(layer) {
					continue
				}
				within++
				f.s.evict(layer, nil, nil, nil, 0, 128)
			}
			if !bytes.Equal(save(), before) {
				t.Errorf("%s: evicted of a budget that was kept", spec)
			}
		}
	}
	if within == 0 {
		t.Error("no layer kept its budget")
	}
}
