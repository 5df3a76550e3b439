package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/passages"
)

// blendBackend is what a device offers of decode.Blender.
type blendBackend interface {
	backend
	Blend(b *Blend, rows int) (done bool, err error)
	Move(s, desk Sequence)
	Passage(s Sequence, first, n int) (*passages.Passage, error)
}

// blending is one way to put a prompt together: its passages' lengths, and the tokens
// before each and after the last.
type blending struct {
	passages []int
	between  []int
	head     int // first tokens of the prompt that every passage was computed behind
}

// compute makes a prompt of random tokens and what a full cache holds of each passage
// behind the head.
func (w blending) compute(t *testing.T, b blendBackend) (tokens []int32, places []Place) {
	t.Helper()
	random := rand.New(rand.NewPCG(21, 22))
	next := func(n int) {
		for range n {
			tokens = append(tokens, random.Int32N(int32(b.Config().Vocab)))
		}
	}
	for i, n := range w.passages {
		next(w.between[i])
		at := len(tokens)
		next(n)
		places = append(places, Place{At: at, Passage: passageOf(t, b, tokens[:w.head], tokens[at:])})
	}
	next(w.between[len(w.passages)])
	return tokens, places
}

// passageOf is what a full cache holds of tokens behind a head.
func passageOf(t *testing.T, b blendBackend, head, tokens []int32) *passages.Passage {
	t.Helper()
	one, all := conformance{b: b}, slices.Concat(head, tokens)
	s := one.sequence(t, "full", cache.Budget{}, 0)
	for block := range slices.Chunk(all, 40) {
		one.forward(t, Work{Sequence: s, Tokens: block, Prompt: true})
	}
	return held(t, b, s, len(head), len(tokens))
}

// held are keys and values of tokens that a sequence holds all.
func held(t *testing.T, b blendBackend, s Sequence, first, n int) *passages.Passage {
	t.Helper()
	p, err := b.Passage(s, first, n)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// runBlend blends a prompt on a desk of its own.
func runBlend(t *testing.T, c blendBackend, spec string, b *Blend) (desk Sequence, rows [][]int) {
	t.Helper()
	parsed, err := cache.ParseSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := cache.NewDesk(parsed, len(b.Tokens), c.Shape(parsed.Policy))
	if err != nil {
		t.Fatal(err)
	}
	b.Desk = (&conformance{b: c}).take(t, plan)
	b.trace = func(_ int, computed []int) { rows = append(rows, slices.Clone(computed)) }
	for done := false; !done; {
		if done, err = c.Blend(b, 7); err != nil {
			t.Fatal(err)
		}
	}
	return b.Desk, rows
}

// worst is the greatest difference, as a share of the largest number of want.
func worst[A, B float32 | float64](got []A, want []B) float64 {
	if len(got) != len(want) {
		return math.NaN()
	}
	apart, largest := 0.0, 0.0
	for i := range got {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if !(d <= apart) {
			apart = d
		}
		largest = max(largest, math.Abs(float64(want[i])))
	}
	return apart / largest
}

// wideAll are stored keys or values [n, stored] as float32 [n, headDim].
func (c *CPU) wideAll(stored []uint16) []float32 {
	x := make([]float32, len(stored)/c.stored*c.config.HeadDim)
	for i := range len(stored) / c.stored {
		c.widen(rowOf(x, i, c.config.HeadDim), rowOf(stored, i, c.stored))
	}
	return x
}

var blendings = []blending{
	{passages: []int{40}, between: []int{3, 9}},
	{passages: []int{33, 17, 50}, between: []int{5, 3, 1, 11}, head: 5},
	{passages: []int{1, 61}, between: []int{12, 0, 1}, head: 7},
}
