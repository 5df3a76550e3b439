package cache

import "testing"

// What a group takes, counted by hand for 64 channels: keys, their scales, values, theirs.
func TestGroupBytes(t *testing.T) {
	shape := Shape{Layers: 1, KVHeads: 1, HeadDim: 64, Context: 8192, Interval: 16, Ranks: []int{8}}
	for text, want := range map[string]int64{
		"sinks+kivi4":              32*64/2 + 64*4 + 32*64/2 + 2*32*4,
		"sinks+kivi2":              32*64/4 + 64*4 + 32*64/4 + 2*32*4,
		"sinks+think":              32*39*2 + 32*64*2,                    // 25 of 64 channels go
		"sinks+kivi4+think":        32*40/2 + 40*4 + 32*64/2 + 2*32*4,    // 39 in whole lines of 4
		"sinks+kivi2+think":        32*40/4 + 40*4 + 32*64/4 + 2*32*4,    // and of 8
		"sinks+less+kivi4+think50": 32*32/2 + 32*4 + 1024 + 256 + 32*8*2, // ψ of 32 tokens
		"sinks+less+kivi4":         32*64/2 + 64*4 + 32*64/2 + 2*32*4,    // absorbed dequantised
	} {
		spec, err := ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		p := Plan{Spec: spec, Shape: shape}
		if got := p.groupBytes(0); got != want {
			t.Errorf("%s: a group takes %d bytes, want %d", text, got, want)
		}
	}
}

// Slots are those in 16 bits and whole groups, never fewer than were asked for.
func TestSlotsOfPackedCaches(t *testing.T) {
	for _, test := range []struct {
		spec                  Spec
		tokens, slots, groups int
	}{
		{Spec{}, 700, 700, 0},
		{Spec{Bits: 4}, 132, 132, 0},
		{Spec{Bits: 4}, 133, 164, 1},
		{Spec{Bits: 2}, 164, 164, 1},
		{Spec{Bits: 2, Think: 40}, 165, 196, 2},
		{Spec{Think: 40}, 132, 132, 0},
		{Spec{Think: 40}, 230, 260, 4},
	} {
		slots, groups := Plan{Spec: test.spec}.slots(test.tokens)
		if slots != test.slots || groups != test.groups {
			t.Errorf("%+v: %d tokens get %d slots with %d groups, want %d with %d", test.spec, test.tokens, slots, groups, test.slots, test.groups)
		}
	}
}

// Heads that divide a budget anew never take more bytes than it has, though groups do
// not divide as tokens do.
func TestDividePacked(t *testing.T) {
	shape := Shape{Layers: 2, KVHeads: 3, HeadDim: 64, Context: 8192, Interval: 16}
	p := Plan{Spec: Spec{Policy: Vote, Bits: 4}, Shape: shape, Keep: 300, Interval: 16}
	p.divide(repeat(300, 6))
	for _, keeps := range [][]int{{300, 300, 300, 300, 300, 300}, {600, 550, 333, 117, 100, 100}, {1795, 1, 1, 1, 1, 1}, {149, 151, 299, 301, 401, 499}} {
		divided, err := p.Divide(keeps)
		if err != nil {
			t.Errorf("%v: %v", keeps, err)
			continue
		}
		for i, keep := range divided.Keeps {
			if keep > keeps[i] || keep < keeps[i]-GroupTokens*4 || divided.Slots[i] < keep+16 || divided.Bytes > p.Bytes {
				t.Errorf("%v: head %d keeps %d of %d in %d slots, %d bytes of %d", keeps, i, keep, keeps[i], divided.Slots[i], divided.Bytes, p.Bytes)
			}
		}
	}
	if _, err := p.Divide(repeat(310, 6)); err == nil {
		t.Error("more tokens than there were are given out")
	}
}
