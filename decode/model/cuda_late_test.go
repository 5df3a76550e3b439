package model

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/gguf/gguftest"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/cuda/device"
	"lessrag/lesskernels/cuda/ptx"
)

// forgetful is a device of which every third number of those that are read, in the second half of them, is 0.
type forgetful struct {
	*ptx.Device
	now bool
}

type forgetfulStream struct {
	device.Stream
	d *forgetful
}

func (d *forgetful) NewStream() (device.Stream, error) {
	s, err := d.Device.NewStream()
	return &forgetfulStream{s, d}, err
}

func (s *forgetfulStream) Download(to []byte, from device.Pointer) error {
	err := s.Stream.Download(to, from)
	for at := len(to) / 2; s.d.now && at < len(to)-4; at += 12 {
		binary.LittleEndian.PutUint32(to[at:], 0)
	}
	return err
}

// KV heads of a policy that may keep fewer tokens than the budget come to hold different numbers of them, and their
// rows see just these: the CPU, which is told to keep the same, has the same logits.
func TestCUDAUnevenByAttention(t *testing.T) {
	const prompt, budget, interval = 280, 300, 8
	long := quantised
	long.Context = 400
	d := &forgetful{Device: ptx.New(1 << 28)}
	limits := Limits{Tokens: 70, Sequences: 2}
	c, err := NewCUDA(parse(t, long), limits, 1<<20, d)
	if err != nil {
		t.Fatal(err)
	}
	c.mostTables = 0 // as if there were too many of them
	pool := cpu.NewPool(0)
	t.Cleanup(pool.Close)
	exact, err := NewCPU(parse(t, long), Float32, limits, pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the sequences
		c.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	random := rand.New(rand.NewPCG(3, 4))
	ids := make([]int32, prompt+3*interval)
	for i := range ids {
		ids[i] = random.Int32N(gguftest.Vocab)
	}
	card, host := conformance{b: c}, conformance{b: exact}
	s := card.sequence(t, cache.CORM, cache.Budget{Tokens: budget}, interval)
	d.now = true
	card.run(t, s, ids[:prompt], 70, true)
	card.run(t, s, ids[prompt:prompt+1], 1, false) // which decides first
	d.now = false
	held := s.(*cudaSequence).books
	choice := cache.Choice{}
	least, most := math.MaxInt, 0
	for i := range long.Layers * long.KVHeads {
		var kept []int32
		for _, position := range held.Positions(i/long.KVHeads, i%long.KVHeads) {
			if position < prompt {
				kept = append(kept, position)
			}
		}
		choice.Kept, choice.Keep = append(choice.Kept, kept), append(choice.Keep, len(kept))
		least, most = min(least, len(kept)), max(most, len(kept))
	}
	if t.Logf("KV heads hold %d to %d tokens", least, most); least == most {
		t.Fatal("all KV heads hold as many")
	}
	staging := host.staging(t, cache.Vote, "", prompt)
	host.run(t, staging, ids[:prompt], 70, true)
	shape := exact.Shape(cache.Vote)
	shape.Interval = 3 * interval
	plan, err := cache.NewPlan(cache.Spec{Policy: cache.Vote}, cache.Budget{Tokens: prompt}, shape)
	if err != nil {
		t.Fatal(err)
	}
	if plan, err = plan.Divide(choice.Keep); err != nil {
		t.Fatal(err)
	}
	want := host.take(t, plan)
	exact.Take(want, staging, choice)
	host.run(t, want, ids[prompt:prompt+1], 1, false)
	for from := prompt + 1; from < prompt+interval; from += 3 { // before the next decision
		n := min(3, prompt+interval-from)
		got, reference := card.run(t, s, ids[from:from+n], n, n > 1), host.run(t, want, ids[from:from+n], n, n > 1)
		off := offNorm(got, reference)
		if t.Logf("logits within %.2g of their norm", off); !(off <= 0.03) {
			t.Errorf("logits off by %.2g of their norm", off)
		}
	}
	if !slices.ContainsFunc(choice.Keep, func(n int) bool { return n < budget-interval }) {
		t.Error("none holds less than its budget")
	}
}
