package cpu

import (
	"fmt"
	"math"
	"testing"

	"lessrag/lesskernels/vectortest"
)

// What groups stand for, and attention over them, against an independent program in
// float64 (testdata/make_packed.py).
func TestPackedVectors(t *testing.T) {
	var cases []struct {
		Dim, Bits, Percent     int
		Q, K, V                []float32
		Channels               []uint16
		Keys, Values, Out, LSE []float64
	}
	if vectortest.Read(t, "testdata/packed.json.gz", &cases); len(cases) != 6 {
		t.Fatalf("%d cases", len(cases))
	}
	const tokens, every = 2 * PackTokens, 4
	for _, c := range cases {
		name := fmt.Sprintf("%d channels, %d bits, %d%% pruned", c.Dim, c.Bits, c.Percent)
		p := Packing{Bits: c.Bits, Keys: len(c.Channels), Values: c.Dim}
		if want := c.Dim - c.Dim*c.Percent/100; p.Keys != want {
			t.Fatalf("%s: %d channels, want %d", name, p.Keys, want)
		}
		slots := PackedSlots{Packing: p, Groups: make([]uint16, 2*p.Words())}
		if c.Percent > 0 {
			slots.Channels = c.Channels
		}
		var keys []float32
		for at := range tokens {
			for _, channel := range c.Channels {
				keys = append(keys, c.K[at*c.Dim+int(channel)]/64)
			}
		}
		values := append([]float32(nil), c.V...)
		for i := range values {
			values[i] /= 64
		}
		for i := range 2 {
			p.Pack(slots.group(i), keys[i*PackTokens*p.Keys:][:PackTokens*p.Keys], values[i*PackTokens*c.Dim:][:PackTokens*c.Dim])
		}
		gotKeys, gotValues := make([]float32, tokens*c.Dim), make([]float32, tokens*c.Dim)
		for i := range 2 {
			slots.Unpack(gotKeys[i*PackTokens*c.Dim:], gotValues[i*PackTokens*c.Dim:], i)
		}
		for i, want := range c.Keys {
			at := i/c.Dim*every*c.Dim + i%c.Dim
			if diff := math.Abs(float64(gotKeys[at]) - want); !(diff <= 3e-6*(1+math.Abs(want))) {
				t.Fatalf("%s: key of token %d, channel %d is %v, want %v", name, at/c.Dim, at%c.Dim, gotKeys[at], want)
			}
			if diff := math.Abs(float64(gotValues[at]) - c.Values[i]); !(diff <= 3e-6*(1+math.Abs(c.Values[i]))) {
				t.Fatalf("%s: value of token %d, channel %d is %v, want %v", name, at/c.Dim, at%c.Dim, gotValues[at], c.Values[i])
			}
		}
		const heads = 3
		q := make([]float32, heads*c.Dim)
		for i, x := range c.Q[len(c.Q)-len(q):] {
			q[i] = x / 64
		}
		for _, isa := range isas() {
			var s Scratch
			out, lse := make([]float32, len(q)), make([]float32, heads)
			AttendPacked(isa, out, lse, q, slots, heads, c.Dim, float32(1/math.Sqrt(float64(c.Dim))), &s)
			for i, want := range c.LSE {
				if diff := math.Abs(float64(lse[i]) - want); !(diff <= 5e-6*(1+math.Abs(want))) {
					t.Errorf("%s, %v: lse %v, want %v", name, isa, lse[i], want)
				}
			}
			for i, want := range c.Out {
				if diff := math.Abs(float64(out[i]) - want); !(diff <= 1e-5*(1+math.Abs(want))) {
					t.Errorf("%s, %v: out[%d] = %v, want %v", name, isa, i, out[i], want)
				}
			}
		}
	}
}
