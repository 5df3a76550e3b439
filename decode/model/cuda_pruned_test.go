package model

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/gguf/gguftest"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// prunedRun is a sequence on a card beside one on the CPU in float32.
type prunedRun struct {
	t          *testing.T
	card, host conformance
	s, want    Sequence
	logits     [][]float32
	reference  [][]float32
}

// feed takes a block in, and tells whether both hold the same tokens.
func (r *prunedRun) feed(block []int32) bool {
	r.t.Helper()
	n := len(block)
	r.logits = append(r.logits, r.card.run(r.t, r.s, block, n, n > 1)...)
	r.reference = append(r.reference, r.host.run(r.t, r.want, block, n, n > 1)...)
	held, reference := r.s.Held(), r.want.Held()
	if held.Bytes > r.s.Plan().Bytes {
		r.t.Fatalf("%+v is held of %d bytes", held, r.s.Plan().Bytes)
	}
	return exchanged(r.s.(*cudaSequence), r.want.(*cache.Sequence)) == 0 && held.Kept == reference.Kept
}

// check compares logits, and the channels that keys keep.
func (r *prunedRun) check() {
	r.t.Helper()
	s, want := r.s.(*cudaSequence), r.want.(*cache.Sequence)
	others, all := 0, 0
	for i, kept := range s.channels {
		for _, channel := range want.Packed(i/s.plan.Shape.KVHeads, i%s.plan.Shape.KVHeads).Channels {
			if all++; !slices.Contains(kept, channel) {
				others++
			}
		}
	}
	off := offNorm(r.logits, r.reference)
	if r.t.Logf("logits within %.2g of their norm, %d of %d channels are others", off, others, all); !(off <= 0.03) {
		r.t.Errorf("logits off by %.2g of their norm", off)
	}
	if others > 0 || all == 0 {
		r.t.Errorf("%d of %d channels are others", others, all)
	}
}

// checkCopy: what goes on from a copy has the same logits.
func (r *prunedRun) checkCopy(next []int32) {
	r.t.Helper()
	kept, err := r.card.b.Copy(r.s, r.s.Position())
	if err != nil {
		r.t.Fatal(err)
	}
	other := r.card.take(r.t, r.s.Plan())
	r.card.b.Adopt(other, kept, r.s.Position())
	if err := kept.Free(); err != nil {
		r.t.Error(err)
	}
	if got, want := r.card.run(r.t, other, next, 1, false), r.card.run(r.t, r.s, next, 1, false); !reflect.DeepEqual(got, want) {
		r.t.Error("other logits from a copy")
	}
}

// Caches whose packed keys lose channels give the logits of the CPU's: blocks that fit, that are packed for, that evict groups, or
// are larger than what is in 16 bits; and prompts that were staged. The shares are those at which no two channels add as much to
// attention, up to a hundredth, as the last one that is kept: the rounding of activations does not decide.
func TestCUDAPruned(t *testing.T) {
	long := quantised
	long.Context = 400
	limits := Limits{Tokens: 80, Sequences: 1}
	pool := cpu.NewPool(0)
	t.Cleanup(pool.Close)
	exact, err := NewCPU(parse(t, long), Float32, limits, pool)
	if err != nil {
		t.Fatal(err)
	}
	maps := syntheticMaps(exact.config, 5, lesskernels.PreRoPE, partly)
	if err := exact.UseMaps(maps); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(9, 10))
	ids := make([]int32, 300)
	for i := range ids {
		ids[i] = random.Int32N(gguftest.Vocab)
	}
	onDevices(t, long, limits, func(t *testing.T, c *CUDA) {
		if err := c.UseMaps(maps); err != nil {
			t.Fatal(err)
		}
		start := func(t *testing.T) *prunedRun {
			return &prunedRun{t: t, card: conformance{b: c}, host: conformance{b: exact}}
		}
		for _, spec := range []string{"full+think26", "sinks+less+think89", "h2o+moment+think26", "streaming+less+think15", "elastic+think26"} {
			t.Run(spec, func(t *testing.T) {
				r := start(t)
				budget := cache.Budget{Tokens: 170}
				if spec[:4] == cache.Full {
					budget.Tokens = 250
				}
				r.s, r.want = r.card.sequence(t, spec, budget, 8), r.host.sequence(t, spec, budget, 8)
				from := feedBlocks(t, r.feed, ids, 80, 40, 8, 20, 1, 50, 1, 7, 1, 40, 1, 1)
				r.check()
				if spec == "sinks+less+think89" {
					r.checkCopy(ids[from : from+1])
				}
			})
		}
		for _, spec := range []string{"vote+less+think75", "elastic-values+think5"} {
			t.Run("staged "+spec, func(t *testing.T) {
				const prompt, question, keep = 200, 8, 170
				r := start(t)
				parsed, err := cache.ParseSpec(spec)
				if err != nil {
					t.Fatal(err)
				}
				take := func(one conformance, choice *cache.Choice) Sequence {
					plan, err := cache.NewStaging(parsed, prompt, one.b.Shape(parsed.Policy))
					if err != nil {
						t.Fatal(err)
					}
					staging := one.take(t, plan)
					for from := 0; from < prompt; from += 40 {
						one.forward(t, Work{Sequence: staging, Tokens: ids[from : from+40], Prompt: true, Question: question})
					}
					if staged := one.b.Staged(staging); choice.Kept == nil { // in float32, for both
						staged.Keep, staged.Question, staged.End, staged.Weights = slices.Repeat([]int{keep}, len(staged.Positions)), prompt-question, true, []float32{0, 1, 0.2, 0.1}
						*choice = cache.ChooserOf(parsed).Choose(staged)
					}
					shape := one.b.Shape(parsed.Policy)
					shape.Interval = 8
					if plan, err = cache.NewPlan(parsed, cache.Budget{Tokens: keep}, shape); err == nil && choice.Keep != nil {
						plan, err = plan.Divide(choice.Keep)
					}
					if err != nil {
						t.Fatal(err)
					}
					s := one.take(t, plan)
					one.b.Take(s, staging, *choice)
					return s
				}
				var choice cache.Choice
				r.want = take(r.host, &choice)
				r.s = take(r.card, &choice)
				from := prompt
				for _, n := range []int{1, 5, 1, 20, 1, 9, 1} {
					from += n
					if !r.feed(ids[from-n : from]) {
						t.Fatalf("other tokens are held after %d", from)
					}
				}
				r.check()
			})
		}
	})
}
