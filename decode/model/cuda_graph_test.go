package model

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/gguf/gguftest"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cuda/device"
	"lessrag/lesskernels/cuda/ptx"
)

// counting is a device that counts what its stream is asked.
type counting struct {
	*ptx.Device
	launches, captured, runs int
	downloaded               int // bytes
	waits, uploads           int
	capturing                bool
	idle                     bool // it computes nothing: what is read is 0
}

// countedCard opens a backend over such a device.
func countedCard(t *testing.T, m gguftest.Model, limits Limits, idle bool) (*counting, *CUDA) {
	t.Helper()
	d := &counting{Device: ptx.New(1 << 28), idle: idle}
	c, err := NewCUDA(parse(t, m), limits, 1<<20, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the sequences
		c.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, c
}

type countingStream struct {
	device.Stream
	d *counting
}

func (d *counting) NewStream() (device.Stream, error) {
	s, err := d.Device.NewStream()
	return &countingStream{s, d}, err
}

func (s *countingStream) Launch(f device.Function, grid device.Grid, args ...uint64) error {
	if !s.d.capturing {
		s.d.launches++
	}
	if s.d.idle {
		return nil
	}
	return s.Stream.Launch(f, grid, args...)
}

func (s *countingStream) Upload(to device.Pointer, from []byte) error {
	s.d.uploads++
	return s.Stream.Upload(to, from)
}

func (s *countingStream) Wait() error {
	s.d.waits++
	return s.Stream.Wait()
}

func (s *countingStream) Download(to []byte, from device.Pointer) error {
	s.d.downloaded += len(to)
	s.d.waits++
	err := s.Stream.Download(to, from)
	if s.d.idle {
		clear(to)
	}
	return err
}

func (s *countingStream) Capture(record func() error) (device.Graph, error) {
	s.d.captured++
	s.d.capturing = true
	defer func() { s.d.capturing = false }()
	return s.Stream.Capture(record)
}

func (s *countingStream) Run(g device.Graph) error {
	s.d.runs++
	return s.Stream.Run(g)
}

// Steps of answers run from one graph for each number of answers, whatever has come and gone between; prompts and
// evictions do not. That their logits are those of launches one by one, conform proves with every batch.
func TestCUDAGraphs(t *testing.T) {
	d, c := countedCard(t, quantised, Limits{Tokens: 32, Sequences: 4}, false)
	if err := c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)); err != nil {
		t.Fatal(err)
	}
	one := conformance{b: c}
	take := func(spec string) Sequence { return one.sequence(t, spec, cache.Budget{Tokens: 12}, 4) }
	all := []Sequence{take("sinks+less"), take("h2o+less"), take("full")}
	prompt := []int32{1, 2, 3, 4, 5, 6, 7, 8}
	for _, s := range all {
		one.forward(t, Work{Sequence: s, Tokens: prompt[:4], Prompt: true})
		one.forward(t, Work{Sequence: s, Tokens: prompt[4:], Prompt: true})
	}
	if d.captured+d.runs > 0 {
		t.Errorf("%d graphs of prompts", d.captured)
	}
	step := func(sequences ...Sequence) (launches, captured, runs int) {
		d.launches, d.captured, d.runs = 0, 0, 0
		var works []Work
		for _, s := range sequences {
			works = append(works, Work{Sequence: s, Tokens: prompt[:1], Logits: true})
		}
		one.forward(t, works...)
		return d.launches, d.captured, d.runs
	}
	// 16 slots are full after 8 steps, of which the budget is 12.
	var captures []int
	for i := range 4 {
		for _, group := range [][]Sequence{all, all[:2], all[:1]} {
			if len(group) > 1 && i > 1 {
				continue
			}
			launches, captured, runs := step(group...)
			captures = append(captures, captured)
			if launches != 0 || runs != 1 {
				t.Errorf("step %d of %d answers: %d launches and %d graphs run", i, len(group), launches, runs)
			}
		}
	}
	if want := []int{1, 1, 1, 0, 0, 0, 0, 0}; !slices.Equal(captures, want) {
		t.Errorf("graphs were made %v, want %v", captures, want)
	}
	for all[0].Held().Evicted == 0 {
		launches, captured, runs := step(all[0])
		if evicted := all[0].Held().Evicted > 0; evicted != (launches > 0) || evicted == (runs == 1) || captured > 1 {
			t.Errorf("evicted %v: %d launches, %d graphs made and %d run", evicted, launches, captured, runs)
		}
	}
	if launches, captured, runs := step(all[0]); launches != 0 || captured > 1 || runs != 1 { // it asks its states now
		t.Errorf("after an eviction %d launches, %d graphs made and %d run", launches, captured, runs)
	}
	if launches, captured, _ := step(all[0]); launches != 0 || captured != 0 {
		t.Errorf("the next step makes %d graphs", captured)
	}

	// An answer that a question chose for takes a graph too, until it evicts.
	staging := one.staging(t, cache.Vote, cache.Less, 64)
	var long []int32
	for i := range int32(60) {
		long = append(long, i)
	}
	choice := one.stage(t, staging, long, 5, 40, []float32{1, 0, 0, 0.5})
	shape := c.Shape(cache.Vote)
	shape.Interval = 3
	plan, err := cache.NewPlan(staging.Plan().Spec, cache.Budget{Tokens: 40}, shape)
	if err == nil {
		plan, err = plan.Divide(choice.Keep)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.NewSequence(plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Free() })
	c.Take(s, staging, choice)
	captures = nil
	for i := range 5 {
		before := s.Held().Evicted
		launches, captured, runs := step(s)
		captures = append(captures, captured)
		if evicted := s.Held().Evicted > before; evicted != (launches > 0) || evicted == (runs == 1) || evicted != (i == 3) {
			t.Errorf("step %d of what was chosen evicted %v: %d launches, %d graphs made and %d run", i, evicted, launches, captured, runs)
		}
	}
	if want := []int{1, 0, 0, 0, 0}; !slices.Equal(captures, want) {
		t.Errorf("graphs were made %v, want %v", captures, want)
	}
}

// Where the likeliest tokens are enough, these are what comes from the device; they are those of the logits, which
// can still be had.
func TestCUDALikely(t *testing.T) {
	d, c := countedCard(t, quantised, Limits{Tokens: 32, Sequences: 4}, false)
	one := conformance{b: c}
	var all []Sequence
	for range 3 {
		all = append(all, one.sequence(t, "full", cache.Budget{Tokens: 12}, 1))
	}
	const likeliest = 5
	for _, tokens := range [][]int32{{1, 2, 3}, {4}} { // a prompt, and a step
		var works []Work
		for i, s := range all {
			works = append(works, Work{Sequence: s, Tokens: tokens, Prompt: len(tokens) > 1, Logits: true})
			if i < 2 {
				works[i].Likeliest, works[i].Heat = likeliest, 0.5
			}
		}
		d.downloaded = 0
		results := one.forward(t, works...)
		logits := results[2].Logits
		if want := 3*likelyRow*8 + 4*len(logits); d.downloaded != want || results[0].Logits != nil || results[2].Likely != nil {
			t.Errorf("%d bytes were downloaded, want %d", d.downloaded, want)
		}
		order := make([]int32, len(logits))
		sum := 0.0
		for i, x := range logits {
			order[i] = int32(i)
			sum += math.Exp(float64(x-slices.Max(logits)) / 0.5)
		}
		slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(logits[b], logits[a]) })
		for _, r := range results[:2] {
			l := r.Likely
			for i, token := range l.Tokens {
				if token != (Token{order[i], logits[order[i]]}) {
					t.Errorf("place %d has %v, want %d", i, token, order[i])
				}
			}
			if len(l.Tokens) != likeliest || l.Vocab != len(logits) || !(math.Abs(l.Sum-sum) <= LikelyError/10*sum) {
				t.Errorf("%d tokens of %d, sum %v, want %v", len(l.Tokens), l.Vocab, l.Sum, sum)
			}
			if got, err := l.All(); err != nil || !slices.Equal(got, logits) {
				t.Error("all logits are others", err)
			}
		}
	}
}
