package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/gguf/gguftest"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/cuda/ptx"
)

// stagedRun is a prompt that is staged on the CPU in float32 and on a device side by side. What the CPU's policy chooses
// is given to both.
type stagedRun struct {
	t             *testing.T
	host, card    conformance
	staged, other Sequence // on the CPU, on the device
	ids           []int32  // that are still to come
	read          int
}

// feed takes the next n tokens in, of which the last ones ask.
func (r *stagedRun) feed(n, question int) {
	r.t.Helper()
	for b, s := range map[*conformance]Sequence{&r.host: r.staged, &r.card: r.other} {
		b.forward(r.t, Work{Sequence: s, Tokens: r.ids[:n], Prompt: true, Question: question})
	}
	r.ids, r.read = r.ids[n:], r.read+n
}

// ask compares what the question's rows attended to, and chooses.
func (r *stagedRun) ask(keep, question int, end bool, weights []float32) cache.Choice {
	r.t.Helper()
	want, got := r.host.b.Staged(r.staged), r.card.b.Staged(r.other)
	if got.Group != want.Group || got.Slots != want.Slots || got.Layers != want.Layers || got.KVHeads != want.KVHeads {
		r.t.Fatalf("staged %+v, want %+v", got, want)
	}
	worst, most := 0.0, 0.0
	for i := range want.Positions {
		if !slices.Equal(got.Positions[i], want.Positions[i]) || len(got.Attention[i]) != len(want.Attention[i]) {
			r.t.Fatalf("KV head %d: positions %v and %d numbers, want %v and %d", i, got.Positions[i], len(got.Attention[i]), want.Positions[i], len(want.Attention[i]))
		}
		for j, x := range want.Attention[i] {
			most = max(most, float64(x))
			if off := math.Abs(float64(got.Attention[i][j] - x)); !(off <= worst) {
				worst = off
			}
		}
	}
	if !(worst <= 0.03*most) || most == 0 {
		r.t.Errorf("attention of the question's rows off by %.2g, of %.2g", worst, most)
	}
	want.Keep, want.Question, want.End, want.Weights = slices.Repeat([]int{keep}, len(want.Positions)), r.read-question, end, weights
	return cache.ChooserOf(r.staged.Plan().Spec).Choose(want)
}

// Prompts that are staged in chunks, and what a question chose of them, give the logits of the CPU; the same tokens
// are held, of each KV head as many as its weight gives it.
func TestCUDAStaged(t *testing.T) {
	pool := cpu.NewPool(0)
	t.Cleanup(pool.Close)
	limits := Limits{Tokens: 64, Sequences: 1}
	exact, err := NewCPU(parse(t, quantised), Float32, limits, pool)
	if err != nil {
		t.Fatal(err)
	}
	maps := syntheticMaps(exact.config, 5, lesskernels.PreRoPE, partly)
	if err := exact.UseMaps(maps); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(11, 12))
	ids := make([]int32, 200)
	for i := range ids {
		ids[i] = random.Int32N(gguftest.Vocab)
	}
	weights := []float32{0, 1, 0.2, 0.1}
	onDevices(t, quantised, limits, func(t *testing.T, c *CUDA) {
		if err := c.UseMaps(maps); err != nil {
			t.Fatal(err)
		}
		for _, spec := range []string{"snapkv", "snapkv+less", "vote", "vote+less", "vote+moment"} {
			t.Run(spec, func(t *testing.T) {
				const question, keep, room = 6, 40, 110
				parsed, err := cache.ParseSpec(spec)
				if err != nil {
					t.Fatal(err)
				}
				r := &stagedRun{t: t, host: conformance{b: exact}, card: conformance{b: c}, ids: ids}
				r.staged, r.other = r.host.staging(t, parsed.Policy, parsed.State, room), r.card.staging(t, parsed.Policy, parsed.State, room)
				r.feed(50, 0)
				r.feed(37, 0)
				for b, s := range map[*conformance]Sequence{&r.host: r.staged, &r.card: r.other} {
					b.forward(t, Work{Sequence: s, Tokens: ids[150 : 150+question], Prompt: true, Question: question, Probe: true})
				}
				choice := r.ask(50, 0, false, weights)
				exact.Retain(r.staged, choice)
				c.Retain(r.other, choice)
				r.same("after a chunk", r.staged, r.other)
				r.feed(20, 0)
				r.feed(5, 4) // the question in two blocks
				r.feed(2, 2)
				choice = r.ask(keep, question, true, weights)
				take := func(b conformance, staging Sequence) Sequence {
					shape := b.b.Shape(parsed.Policy)
					shape.Interval = 4
					plan, err := cache.NewPlan(parsed, cache.Budget{Tokens: keep}, shape)
					if err == nil && choice.Keep != nil {
						plan, err = plan.Divide(choice.Keep)
					}
					if err != nil {
						t.Fatal(err)
					}
					s, err := b.b.NewSequence(plan)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := s.Free(); err != nil {
							t.Error(err)
						}
					})
					b.b.Take(s, staging, choice)
					return s
				}
				want, got := take(r.host, r.staged), take(r.card, r.other)
				r.same("at the end", want, got)
				if uneven := got.(*cudaSequence).begin != nil; uneven != (parsed.Policy == cache.Vote) {
					t.Errorf("KV heads of their own room: %v", uneven)
				}
				var logits, reference []float32
				for i, n := range []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 7, 1, 1, 1, 3, 1} {
					block := r.ids[:n]
					r.ids = r.ids[n:]
					logits = append(logits, r.card.run(t, got, block, n, n > 1)[0]...)
					reference = append(reference, r.host.run(t, want, block, n, n > 1)[0]...)
					r.same("then", want, got)
					if i == 9 && got.Held().Evicted == 0 {
						t.Error("nothing is evicted")
					}
				}
				off := offNorm([][]float32{logits}, [][]float32{reference})
				if t.Logf("logits within %.2g of their norm", off); !(off <= 0.03) {
					t.Errorf("logits off by %.2g of their norm", off)
				}
			})
		}
	})
}

// same checks that both sequences hold the same tokens.
func (r *stagedRun) same(when string, want, got Sequence) {
	r.t.Helper()
	reference, held := want.Held(), got.Held()
	reference.Bytes = held.Bytes // keys are stored in two parts there
	if held != reference || held.Bytes > got.Plan().Bytes || got.Position() != want.Position() {
		r.t.Fatalf("%s: %+v is held at %d of %d bytes, want %+v at %d", when, held, got.Position(), got.Plan().Bytes, reference, want.Position())
	}
	if n := exchanged(got.(*cudaSequence), want.(*cache.Sequence)); n > 0 {
		r.t.Fatalf("%s: %d tokens of a KV head are held that the CPU has evicted", when, n)
	}
}

// A device on which weights, a pass, feature maps, caches and what a prompt is staged in fit just so is taken, and holds them;
// with one byte less it is refused, and the bytes are named.
func TestCUDAStagingFits(t *testing.T) {
	const caches, tokens = 1 << 16, 200
	limits := Limits{Tokens: 8, Sequences: 1, Staging: tokens, Blend: tokens}
	put := func(memory int64, maps bool) (*CUDA, *ptx.Device, error) {
		d := ptx.New(memory)
		c, err := NewCUDA(parse(t, quantised), limits, caches, d)
		if err == nil && maps {
			if err = c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)); err != nil {
				c.Close()
			}
		}
		return c, d, err
	}
	for _, maps := range []bool{false, true} {
		c, d, err := put(1<<28, maps)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := d.Info()
		states := []string{"", cache.Moment}
		if maps {
			states = append(states, cache.Less)
		}
		var plan cache.Plan // the largest
		for _, policy := range []string{cache.SnapKV, cache.Vote} {
			for _, state := range states {
				p, err := cache.NewStaging(cache.Spec{Policy: policy, State: state, Think: 40}, tokens, c.Shape(policy))
				if err != nil {
					t.Fatal(err)
				}
				if p.Bytes > plan.Bytes {
					plan = p
				}
			}
		}
		var desk cache.Plan // likewise
		for _, policy := range []string{cache.Full, cache.Streaming, cache.H2O, cache.Vote} {
			p, err := cache.NewDesk(cache.Spec{Policy: policy}, tokens, c.Shape(policy))
			if err != nil {
				t.Fatal(err)
			}
			if p.Bytes > desk.Bytes {
				desk = p
			}
		}
		c.Close()
		least := info.Memory - info.Free + caches + plan.Bytes + 2*desk.Bytes
		if c, d, err = put(least, maps); err != nil {
			t.Errorf("%d bytes: %v", least, err)
			continue
		}
		var taken []Sequence
		for _, plan := range []cache.Plan{plan, desk, desk} {
			s, err := c.NewSequence(plan)
			if err != nil {
				t.Fatal(err)
			}
			taken = append(taken, s)
		}
		if info, _ := d.Info(); info.Free < caches {
			t.Errorf("%s: %d bytes are left to caches", plan.Spec, info.Free)
		}
		for _, s := range taken {
			s.Free()
		}
		c.Close()
		_, d, err = put(least-1, maps)
		for _, want := range []string{fmt.Sprintf("%d for staging a prompt", plan.Bytes), fmt.Sprintf("%d for caches", caches), fmt.Sprintf("%d for putting one together", 2*desk.Bytes), "PTX interpreter"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%d bytes: %v, want an error that says %q", least-1, err, want)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
