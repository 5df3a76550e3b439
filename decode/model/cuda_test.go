package model

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/decode/gguf/gguftest"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/cuda/device"
	"lessrag/lesskernels/cuda/device/devicetest"
	"lessrag/lesskernels/cuda/ptx"
)

func parse(t testing.TB, m gguftest.Model) *gguf.File {
	t.Helper()
	f, err := gguf.Parse(m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// exactly is a model on the CPU in float32.
func exactly(t *testing.T, q gguftest.Model, tokens int) *CPU {
	t.Helper()
	pool := cpu.NewPool(0)
	t.Cleanup(pool.Close)
	c, err := NewCPU(parse(t, q), Float32, Limits{Tokens: tokens, Sequences: 1}, pool)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reference are 150 tokens and the logits after each, as the CPU computes them in
// float32.
func reference(t *testing.T, q gguftest.Model) (ids []int32, logits []float32) {
	t.Helper()
	c := exactly(t, q, 8)
	random := rand.New(rand.NewPCG(7, 8))
	s := (&conformance{b: c}).sequence(t, "full", cache.Budget{}, 0)
	for range 150 {
		ids = append(ids, random.Int32N(gguftest.Vocab))
		r, err := c.Forward([]Work{{Sequence: s, Tokens: ids[len(ids)-1:], Logits: true}})
		if err != nil {
			t.Fatal(err)
		}
		logits = append(logits, r[0].Logits...)
	}
	return ids, logits
}

// onDevices runs a test with a model on the interpreter, and on the card where there is one.
func onDevices(t *testing.T, q gguftest.Model, limits Limits, test func(*testing.T, *CUDA)) {
	open := func(t *testing.T, d device.Device) *CUDA {
		c, err := NewCUDA(parse(t, q), limits, 1<<20, d)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	t.Run("interpreter", func(t *testing.T) {
		d := ptx.New(1 << 28)
		c := open(t, d)
		t.Cleanup(func() { // after the sequences
			c.Close()
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		test(t, c)
	})
	t.Run("card", func(t *testing.T) {
		c := open(t, devicetest.Card(t))
		t.Cleanup(c.Close)
		test(t, c)
	})
}

// quantised is what most tests run.
var quantised = gguftest.Model{Layers: 2, Width: 32, Hidden: 64, Heads: 6, KVHeads: 2, HeadDim: 64, Matrices: lesskernels.Q4_1, Embedding: lesskernels.Q8_0}

func TestCUDAConformance(t *testing.T) {
	ids, logits := reference(t, quantised)
	onDevices(t, quantised, Limits{Tokens: 300, Sequences: 12}, func(t *testing.T, c *CUDA) {
		if err := c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)); err != nil {
			t.Fatal(err)
		}
		conform(t, c, ids, logits, 0.03)
	})
}

// Every shape that kernels take, and every type of weights, gives the logits of the CPU.
func TestCUDAShapes(t *testing.T) {
	const tokens = 40
	for _, q := range []gguftest.Model{
		{Layers: 1, Width: 32, Hidden: 64, Heads: 2, KVHeads: 2, HeadDim: 64, Matrices: lesskernels.Q4_0, Embedding: lesskernels.Q4_0},
		{Layers: 1, Width: 64, Hidden: 32, Heads: 3, KVHeads: 1, HeadDim: 64, Matrices: lesskernels.Q8_0, Embedding: lesskernels.Q4_1, Output: lesskernels.Q8_0},
		{Layers: 1, Width: 256, Hidden: 256, Heads: 4, KVHeads: 1, HeadDim: 128, Matrices: lesskernels.Q4_1, Embedding: lesskernels.Q6_K},
		{Layers: 1, Width: 256, Hidden: 256, Heads: 8, KVHeads: 1, HeadDim: 128, Matrices: lesskernels.Q6_K, Embedding: lesskernels.Q8_0, Output: lesskernels.Q6_K},
		{Layers: 1, Width: 96, Hidden: 64, Heads: 3, KVHeads: 1, HeadDim: 256, Matrices: lesskernels.F16, Embedding: lesskernels.BF16},
		{Layers: 1, Width: 256, Hidden: 256, Heads: 2, KVHeads: 1, HeadDim: 256, Matrices: lesskernels.Q4_K, Embedding: lesskernels.Q5_K, Output: lesskernels.F16},
		{Layers: 1, Width: 64, Hidden: 32, Heads: 2, KVHeads: 2, HeadDim: 64, Matrices: lesskernels.Q5_0, Embedding: lesskernels.Q5_1},
		{Layers: 1, Width: 32, Hidden: 64, Heads: 4, KVHeads: 1, HeadDim: 64, Matrices: lesskernels.F32, Embedding: lesskernels.F32},
	} {
		t.Run(fmt.Sprintf("%d heads for %d of %d, %v", q.Heads, q.KVHeads, q.HeadDim, q.Matrices), func(t *testing.T) {
			ids, logits := reference(t, q)
			onDevices(t, q, Limits{Tokens: 64, Sequences: 2}, func(t *testing.T, c *CUDA) {
				one := conformance{b: c}
				s := one.sequence(t, "full", cache.Budget{}, 0)
				got := one.run(t, s, ids[:tokens-1], tokens-1, true)[0]
				worst, largest := 0.0, 0.0
				compare := func(got []float32, after int) {
					for j, x := range logits[after*gguftest.Vocab:][:gguftest.Vocab] {
						worst, largest = max(worst, math.Abs(float64(got[j]-x))), max(largest, math.Abs(float64(x)))
					}
				}
				compare(got, tokens-2)
				compare(one.run(t, s, ids[tokens-1:tokens], 1, false)[0], tokens-1)
				if t.Logf("logits within %.2g of the largest", worst/largest); !(worst <= 0.03*largest) {
					t.Errorf("logits differ by %.2g of the largest", worst/largest)
				}
			})
		})
	}
}

// A sequence gives its memory back, and takes no more than its Plan.
func TestCUDAMemory(t *testing.T) {
	d := ptx.New(1 << 28)
	c, err := NewCUDA(parse(t, quantised), Limits{Tokens: 8, Sequences: 2}, 0, d)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, partly)); err != nil {
		t.Fatal(err)
	}
	free := func() int64 { info, _ := d.Info(); return info.Free }
	for _, parsed := range everyCache() {
		before, spec := free(), parsed.String()
		shape := c.Shape(parsed.Policy)
		shape.Interval = 3
		keep := max(20, cache.NewPolicy(parsed).Minimum())
		if parsed.Packs() {
			keep = 200
		}
		plan, err := cache.NewPlan(parsed, cache.Budget{Tokens: keep}, shape)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.NewSequence(plan)
		if err != nil {
			t.Fatal(err)
		}
		if taken := before - free(); taken > plan.Bytes || taken < plan.Bytes*9/10 {
			t.Errorf("%s: %d bytes taken for a plan of %d", spec, taken, plan.Bytes)
		}
		if !parsed.Bounded() || parsed.Packs() {
			s.Free()
			continue
		}
		for range 15 {
			if _, err := c.Forward([]Work{{Sequence: s, Tokens: []int32{1, 2, 3}}}); err != nil {
				t.Fatal(err)
			}
		}
		if held := s.Held(); held.Bytes > plan.Bytes || held.Kept > keep+3 || held.Kept+held.Evicted != 45 {
			t.Errorf("%s: held %+v with a plan of %d bytes", spec, held, plan.Bytes)
		}
		if err := s.Free(); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// What does not fit on a card, or is not read by it, is refused by its name, and leaves
// nothing behind.
func TestCUDARefuses(t *testing.T) {
	good, narrow := quantised, quantised
	narrow.HeadDim = 32
	for want, test := range map[string]struct {
		gguftest.Model
		limits Limits
		memory int64
	}{
		"head dimension of 32":                              {narrow, Limits{Tokens: 8, Sequences: 1}, 1 << 28},
		"limits of 0 tokens":                                {good, Limits{Sequences: 1}, 1 << 28},
		"100000 bytes are free on card 0 (PTX interpreter)": {good, Limits{Tokens: 8, Sequences: 1}, 100000},
		"limits of 8 tokens and 1 sequences, -1":            {good, Limits{Tokens: 8, Sequences: 1, Staging: -1}, 1 << 28},
	} {
		d := ptx.New(test.memory)
		_, err := NewCUDA(parse(t, test.Model), test.limits, 1<<20, d)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
		if err := d.Close(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}

	d := ptx.New(1 << 28)
	c, err := NewCUDA(parse(t, good), Limits{Tokens: 8, Sequences: 2}, 0, d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	one := conformance{b: c}
	staging := one.staging(t, cache.Vote, "", 6)
	one.forward(t, Work{Sequence: staging, Tokens: []int32{1, 2, 3}})
	s := one.sequence(t, "full", cache.Budget{Tokens: 4}, 0)
	for want, w := range map[string]Work{
		"its cache of 6 slots": {Sequence: staging, Tokens: []int32{1, 2, 3, 4}},
		"its cache of 4 slots": {Sequence: s, Tokens: []int32{1, 2, 3, 4, 5}},
	} {
		if _, err := c.Forward([]Work{w}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
}

// An error of the device is told by the pass that meets it, and by all after it.
func TestCUDALost(t *testing.T) {
	d := ptx.New(1 << 28)
	c, err := NewCUDA(parse(t, quantised), Limits{Tokens: 8, Sequences: 2}, 0, d)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := (&conformance{b: c}).sequence(t, "full", cache.Budget{Tokens: 40}, 0)
	if err := d.Free(c.weights.layers[1].o.Memory()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Forward([]Work{{Sequence: s, Tokens: []int32{1}, Logits: true}}); !errors.Is(err, device.ErrLost) {
			t.Errorf("a pass without a matrix: %v", err)
		}
	}
	if _, err := c.NewSequence(s.Plan()); !errors.Is(err, device.ErrLost) {
		t.Errorf("a sequence on a lost device: %v", err)
	}
}

// The default reader itself, after the first words of a text, on the interpreter: the token that
// follows is the one of the CPU in float32.
func TestCUDAReader(t *testing.T) {
	if os.Getenv("LESSRAG_TEST_LONG") == "" {
		t.Skip("half a minute; LESSRAG_TEST_LONG=1 runs it")
	}
	const tokens = 12
	ids := readFixture(t, "reader.safetensors").ints("ids")
	limits := Limits{Tokens: 16, Sequences: 1}
	run := func(b backend) []float32 { // a block, and a step
		one := conformance{b: b}
		s := one.sequence(t, "full", cache.Budget{Tokens: 20}, 0)
		one.run(t, s, ids[:tokens], tokens, true)
		return one.run(t, s, ids[tokens:tokens+1], 1, false)[0]
	}
	want := run(newCPU(t, readerPath(), Float32, limits))
	file, err := gguf.Open(readerPath())
	if err != nil {
		t.Fatalf("%v; run make fetch", err)
	}
	defer file.Close()
	c, err := NewCUDA(file, limits, 1<<20, ptx.New(1<<30))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	got := run(c)
	best := func(x []float32) int { return slices.Index(x, slices.Max(x)) }
	if best(got) != best(want) {
		t.Errorf("token %d follows, want %d", best(got), best(want))
	}
	var off, whole float64
	for i, x := range want {
		off += float64(got[i]-x) * float64(got[i]-x)
		whole += float64(x) * float64(x)
	}
	share := math.Sqrt(off / whole)
	if t.Logf("logits off by %.2g of their norm", share); !(share <= 0.03) {
		t.Errorf("logits off by %.2g of their norm", share)
	}
}
