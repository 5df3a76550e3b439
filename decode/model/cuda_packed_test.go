package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/decode/gguf/gguftest"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// packedRun is a sequence on a card, beside two on the CPU: in float32, and as it is decoded there. Codes of 4 bits are
// coarse, and all three round numbers that differ a little to others now and then; in 2 bits these are further apart, and the CPU
// computes what it rounds more exactly than other numbers.
type packedRun struct {
	t       *testing.T
	on      [3]conformance
	s       [3]Sequence
	squares [2]float64 // by how much of their norm logits were off float32: of the card, of the CPU
}

func newPackedRun(t *testing.T, c *CUDA, exact, fast *CPU) *packedRun {
	return &packedRun{t: t, on: [3]conformance{{b: c}, {b: exact}, {b: fast}}}
}

// take takes sequences of a cache.
func (r *packedRun) take(spec string, budget cache.Budget) {
	for i := range r.s {
		r.s[i] = r.on[i].sequence(r.t, spec, budget, 8)
	}
}

// feed takes blocks in, and tells whether all hold the same tokens.
func (r *packedRun) feed(block []int32) bool {
	n := len(block)
	want := r.on[1].run(r.t, r.s[1], block, n, n > 1)
	var off [2]float64
	for i, other := range []int{0, 2} {
		off[i] = offNorm(r.on[other].run(r.t, r.s[other], block, n, n > 1), want)
	}
	held, reference := r.s[0].Held(), r.s[1].Held()
	if held.Bytes > r.s[0].Plan().Bytes || held.Kept+held.Evicted < r.s[1].Position()-1 { // means, rounded
		r.t.Fatalf("%+v is held of %d bytes, at %d", held, r.s[0].Plan().Bytes, r.s[1].Position())
	}
	if exchanged(r.s[0].(*cudaSequence), r.s[1].(*cache.Sequence)) > 0 || held.Kept != reference.Kept {
		return false
	}
	for i, x := range off {
		r.squares[i] += x * x
	}
	return true
}

// feedBlocks feeds blocks of the sizes given until feed tells that other tokens are held, which is an error in the first
// 200. It returns how many tokens were fed.
func feedBlocks(t *testing.T, feed func(block []int32) bool, ids []int32, sizes ...int) (fed int) {
	t.Helper()
	for _, n := range sizes {
		fed += n
		if !feed(ids[fed-n : fed]) {
			if t.Logf("other tokens are held after %d", fed); fed < 200 {
				t.Error("so soon")
			}
			break
		}
	}
	return fed
}

// check compares how far the card and the CPU were off.
func (r *packedRun) check() {
	r.t.Helper()
	card, host := math.Sqrt(r.squares[0]), math.Sqrt(r.squares[1])
	if r.t.Logf("logits off float32 %.2f times as far as those of the CPU", card/host); !(card <= map[int]float64{2: 1.6, 4: 1}[r.s[0].Plan().Spec.Bits]*host) {
		r.t.Errorf("logits are off float32 %.2f times as far as those of the CPU", card/host)
	}
}

// Caches that pack what is no longer recent give the logits of the CPU's: blocks that fit, that are packed for, that evict
// groups, or are larger than what is in 16 bits; prompts that a question chose from, and whole ones.
func TestCUDAPacked(t *testing.T) {
	long := quantised
	long.Context = 400
	limits := Limits{Tokens: 80, Sequences: 1}
	pool := cpu.NewPool(0)
	t.Cleanup(pool.Close)
	var hosts []*CPU
	var maps *lesskernels.Maps
	for _, arithmetic := range []Math{Float32, Int8} {
		c, err := NewCPU(parse(t, long), arithmetic, limits, pool)
		if err != nil {
			t.Fatal(err)
		}
		maps = syntheticMaps(c.config, 5, lesskernels.PreRoPE, partly)
		if err := c.UseMaps(maps); err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, c)
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
		for _, spec := range []string{"full+kivi2", "sinks+kivi4+less", "h2o+kivi4+moment", "corm+kivi4", "elastic+kivi2", "elastic-values+kivi4", "tova+less+kivi4+think26", "sinks+kivi2+think26"} {
			t.Run(spec, func(t *testing.T) {
				r := newPackedRun(t, c, hosts[0], hosts[1])
				budget := cache.Budget{Tokens: 170}
				if spec[:4] == cache.Full {
					budget.Tokens = 300
				}
				r.take(spec, budget)
				feedBlocks(t, r.feed, ids, 80, 40, 8, 20, 3, 50, 1, 7, 1, 5, 40, 1, 1, 20, 1, 1)
				r.check()
			})
		}
		for _, spec := range []string{"vote+kivi4", "full+kivi4"} {
			t.Run("staged "+spec, func(t *testing.T) {
				const prompt, question, keep = 240, 8, 170
				r := newPackedRun(t, c, hosts[0], hosts[1])
				parsed, err := cache.ParseSpec(spec)
				if err != nil {
					t.Fatal(err)
				}
				var choice cache.Choice
				for _, i := range []int{1, 0, 2} {
					one := r.on[i]
					plan, err := cache.NewStaging(parsed, prompt, one.b.Shape(parsed.Policy))
					if err != nil {
						t.Fatal(err)
					}
					staging := one.take(t, plan)
					for from := 0; from < prompt; from += limits.Tokens {
						one.forward(t, Work{Sequence: staging, Tokens: ids[from : from+limits.Tokens], Prompt: true, Question: question})
					}
					budget := keep
					if !parsed.Bounded() {
						budget = len(ids)
					}
					staged := one.b.Staged(staging)
					if i == 1 { // in float32, for all
						staged.Keep, staged.Question, staged.End, staged.Weights = slices.Repeat([]int{budget}, len(staged.Positions)), prompt-question, true, []float32{0, 1, 0.2, 0.1}
						choice = cache.ChooserOf(parsed).Choose(staged)
					}
					shape := one.b.Shape(parsed.Policy)
					shape.Interval = 8
					if plan, err = cache.NewPlan(parsed, cache.Budget{Tokens: budget}, shape); err == nil && choice.Keep != nil {
						plan, err = plan.Divide(choice.Keep)
					}
					if err != nil {
						t.Fatal(err)
					}
					r.s[i] = one.take(t, plan)
					one.b.Take(r.s[i], staging, choice)
				}
				from := prompt
				for _, n := range []int{1, 5, 1, 1, 20, 1, 9, 1, 1, 1} {
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
