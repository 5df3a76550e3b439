package model

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lessrag/decode/cache"
	"lessrag/lesskernels"
)

// backend is what a device offers to package decode.
type backend interface {
	Config() Config
	Shape(policy string) cache.Shape
	NewSequence(cache.Plan) (Sequence, error)
	Forward([]Work) ([]Result, error)

	Copy(Sequence, int) (Sequence, error)
	Adopt(s, from Sequence, n int)
	Staged(Sequence) cache.Staged
	Retain(Sequence, cache.Choice)
	Take(s, staging Sequence, c cache.Choice)
	Reset(Sequence)
}

// conform proves that a backend keeps the contract of decode.Backend. Logits [ids, vocab] after each of 150 tokens must be within tolerance of the largest one.
func conform(t *testing.T, b backend, ids []int32, logits []float32, tolerance float64) {
	c := conformance{b: b, ids: ids, logits: logits, tolerance: tolerance}
	t.Run("logits", c.checkLogits)
	t.Run("scores", c.checkScores)
	t.Run("blocks", c.checkBlocks)
	t.Run("batches", c.checkBatches)
	t.Run("consecutive blocks", c.checkConsecutiveBlocks)
	t.Run("budget of the context", c.checkBudgetOfContext)
	t.Run("beyond the budget", c.checkBeyondBudget)
	t.Run("abandoned", c.checkAbandoned)
	t.Run("copies", c.checkCopies)
	t.Run("staging", c.checkStaging)
	t.Run("staged answers", c.checkStagedAnswers)
	t.Run("refusals", c.checkRefusals)
}

type conformance struct {
	b         backend
	ids       []int32
	logits    []float32 // [ids, vocab] after each token, in float64 arithmetic
	tolerance float64
}

func (c *conformance) sequence(t *testing.T, spec string, budget cache.Budget, interval int) Sequence {
	t.Helper()
	parsed, err := cache.ParseSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	shape := c.b.Shape(parsed.Policy)
	shape.Interval = interval
	p, err := cache.NewPlan(parsed, budget, shape)
	if err != nil {
		t.Fatal(err)
	}
	return c.take(t, p)
}

// take takes a sequence, which is freed when the test ends.
func (c *conformance) take(t *testing.T, p cache.Plan) Sequence {
	t.Helper()
	s, err := c.b.NewSequence(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Free(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (c *conformance) forward(t *testing.T, works ...Work) []Result {
	t.Helper()
	results, err := c.b.Forward(works)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// run feeds ids, as a prompt's or not, in blocks and returns the logits after each.
func (c *conformance) run(t *testing.T, s Sequence, ids []int32, block int, prompt bool) [][]float32 {
	t.Helper()
	var out [][]float32
	for from := 0; from < len(ids); from += block {
		r := c.forward(t, Work{Sequence: s, Tokens: ids[from:min(len(ids), from+block)], Prompt: prompt, Logits: true})
		out = append(out, slices.Clone(r[0].Logits))
	}
	return out
}

func (c *conformance) checkLogits(t *testing.T) {
	vocab := c.b.Config().Vocab
	got := c.run(t, c.sequence(t, "full", cache.Budget{}, 0), c.ids, 1, false)
	worst, largest := 0.0, 0.0
	for i, row := range got {
		for j, x := range row {
			worst = max(worst, math.Abs(float64(x-c.logits[i*vocab+j])))
			largest = max(largest, math.Abs(float64(c.logits[i*vocab+j])))
		}
	}
	if t.Logf("logits within %.2g of the largest", worst/largest); !(worst <= c.tolerance*largest) {
		t.Errorf("logits differ by %.2g of the largest, want %v", worst/largest, c.tolerance)
	}
}

// Scores are the log-softmax of the logits that a token alone gives, which are rounded
// more where a token is so unlikely that it is not chosen: see likelyLogits.
func (c *conformance) checkScores(t *testing.T) {
	targets := c.ids[1:]
	r := c.forward(t, Work{Sequence: c.sequence(t, "full", cache.Budget{}, 0), Tokens: c.ids[:len(targets)], Prompt: true, Targets: targets})
	alone := c.run(t, c.sequence(t, "full", cache.Budget{}, 0), c.ids[:len(targets)], 1, true)
	for i, score := range r[0].Scores {
		var sum float64
		best := 0
		for j, x := range alone[i] {
			sum += math.Exp(float64(x))
			if x > alone[i][best] {
				best = j
			}
		}
		allowed, highest := 1e-3, float64(alone[i][best])
		if highest-float64(alone[i][targets[i]]) > likelyLogits {
			allowed = max(allowed, c.tolerance*highest)
		}
		if want := math.Log(sum) - float64(alone[i][targets[i]]); !(math.Abs(score.NLL-want) <= allowed) {
			t.Fatalf("position %d: %v nats, want %v", i, score.NLL, want)
		}
		if alone[i][score.Best] < alone[i][best]-1e-3 {
			t.Fatalf("position %d: token %d is not the most likely one, %d", i, score.Best, best)
		}
	}
}

// A full cache gives the same logits in whatever blocks of a prompt. Kernels may take another
// order of sums for a few queries than for many, so only up to rounding.
func (c *conformance) checkBlocks(t *testing.T) {
	last := func(block int) []float32 {
		rows := c.run(t, c.sequence(t, "full", cache.Budget{}, 0), c.ids, block, true)
		return rows[len(rows)-1]
	}
	want := last(1)
	for _, block := range []int{2, 7, 16, 33, 64, len(c.ids)} {
		for i, x := range last(block) {
			if !(math.Abs(float64(x-want[i])) <= c.tolerance) {
				t.Fatalf("blocks of %d: logit %d is %v, token by token %v", block, i, x, want[i])
			}
		}
	}
}

// Sequences of any cache give the same logits, bit for bit, alone and mixed.
func (c *conformance) checkBatches(t *testing.T) {
	type member struct {
		spec     string
		budget   cache.Budget
		interval int
		prompt   int
		offset   int
	}
	members := []member{
		{"full", cache.Budget{}, 0, 60, 0},
		{"sinks", cache.Budget{Tokens: 16}, 1, 75, 3},
		{"sinks", cache.Budget{Tokens: 24}, 5, 9, 20},
		{"full", cache.Budget{Tokens: 100}, 0, 33, 31},
		{"h2o+less", cache.Budget{Tokens: 18}, 3, 70, 5},
		{"tova+less", cache.Budget{Tokens: 11}, 1, 41, 9},
		{"streaming+moment", cache.Budget{Tokens: 14}, 2, 52, 0},
		{"snapkv+less", cache.Budget{Percent: 100}, 4, 1, 7},
		{"buzz", cache.Budget{Tokens: 20}, 2, 49, 11},
		{"corm+moment", cache.Budget{Tokens: 17}, 3, 66, 2},
		{"cascade+less", cache.Budget{Tokens: 21}, 2, 58, 4},
		{"elastic", cache.Budget{Tokens: 19}, 3, 44, 6},
	}
	const block, tokens = 20, 24
	// feed runs members side by side, a prompt block or one token each per pass.
	feed := func(t *testing.T, members ...member) [][][]float32 {
		sequences := make([]Sequence, len(members))
		for i, m := range members {
			sequences[i] = c.sequence(t, m.spec, m.budget, m.interval)
		}
		out := make([][][]float32, len(members))
		for {
			var works []Work
			var who []int
			for i, m := range members {
				if len(out[i]) == tokens {
					continue
				}
				at := sequences[i].Position()
				n := 1
				if at < m.prompt {
					n = min(block, m.prompt-at)
				}
				works = append(works, Work{Sequence: sequences[i], Tokens: c.ids[m.offset+at : m.offset+at+n], Logits: at+n >= m.prompt})
				who = append(who, i)
			}
			if len(works) == 0 {
				return out
			}
			for i, r := range c.forward(t, works...) {
				if works[i].Logits {
					out[who[i]] = append(out[who[i]], slices.Clone(r.Logits))
				}
			}
		}
	}
	together := feed(t, members...)
	for i, m := range members {
		if alone := feed(t, m); !reflect.DeepEqual(together[i], alone[0]) {
			t.Errorf("%s with budget %q: other logits in a batch than alone", m.spec, m.budget)
		}
	}
}

// Blocks of a prompt that are fed in one pass give what they give one by one, whatever
// the cache evicts, merges or absorbs between them.
func (c *conformance) checkConsecutiveBlocks(t *testing.T) {
	const block = 20
	for _, spec := range []string{"full", "sinks", "streaming", "h2o", "tova", "buzz", "corm", "cascade", "elastic",
		"sinks+less", "h2o+less", "tova+moment", "cascade+less", "full+kivi4", "h2o+kivi2"} {
		budget := cache.Budget{Tokens: 48}
		if strings.HasPrefix(spec, "full") {
			budget = cache.Budget{}
		}
		one, together := c.sequence(t, spec, budget, 4), c.sequence(t, spec, budget, 4)
		beside := c.sequence(t, "h2o", cache.Budget{Tokens: 40}, 2)
		var want, got []float32
		for from := 0; from < len(c.ids); from += 4 * block {
			var works []Work
			to := min(len(c.ids), from+4*block)
			for at := from; at < to; at += block {
				works = append(works, Work{Tokens: c.ids[at:min(to, at+block)], Prompt: true, Logits: min(to, at+block) == to})
			}
			for i := range works {
				works[i].Sequence = one
				if r := c.forward(t, works[i]); works[i].Logits {
					want = slices.Clone(r[0].Logits)
				}
				works[i].Sequence = together
			}
			r := c.forward(t, append(works, Work{Sequence: beside, Tokens: c.ids[from:min(to, from+block)], Prompt: true})...)
			got = r[len(works)-1].Logits
			if !slices.Equal(got, want) || !reflect.DeepEqual(one.Held(), together.Held()) || one.Position() != together.Position() {
				t.Errorf("%s, %d tokens: other logits, or %+v in place of %+v", spec, to, together.Held(), one.Held())
			}
		}
		after := c.ids[:1]
		want = slices.Clone(c.forward(t, Work{Sequence: one, Tokens: after, Logits: true})[0].Logits)
		if got := c.forward(t, Work{Sequence: together, Tokens: after, Logits: true})[0].Logits; !slices.Equal(got, want) {
			t.Errorf("%s: another token follows", spec)
		}
	}
}

// A bounded cache whose budget is the context is the full cache.
func (c *conformance) checkBudgetOfContext(t *testing.T) {
	full := c.run(t, c.sequence(t, "full", cache.Budget{}, 0), c.ids, 10, true)
	sinks := c.run(t, c.sequence(t, "sinks", cache.Budget{Percent: 100}, 3), c.ids, 10, true)
	if !reflect.DeepEqual(full, sinks) {
		t.Error("other logits than the full cache")
	}
}

// A sequence several times its budget stays inside its plan, and the mask that
// its cache amounts to is the paper's.
func (c *conformance) checkBeyondBudget(t *testing.T) {
	const budget = 32
	s := c.sequence(t, "sinks", cache.Budget{Tokens: budget}, 1)
	full := c.run(t, c.sequence(t, "full", cache.Budget{}, 0), c.ids, 1, false)
	same := 0
	for i, row := range c.run(t, s, c.ids, 1, false) {
		equal := slices.Equal(row, full[i])
		if i <= budget && !equal {
			t.Fatalf("position %d of a budget of %d: other logits than the full cache", i, budget)
		}
		if i > budget && equal {
			same++
		}
	}
	if same > 0 {
		t.Errorf("%d positions beyond the budget see what was evicted", same)
	}
	held := s.Held()
	if held.Bytes > s.Plan().Bytes || held.Kept > budget+1 || held.Kept+held.Evicted != len(c.ids) {
		t.Errorf("held %+v with a plan of %d bytes", held, s.Plan().Bytes)
	}
}

// A block that nobody wants is dropped; the others of its batch go on unharmed.
func (c *conformance) checkAbandoned(t *testing.T) {
	done := make(chan struct{})
	close(done)
	want := c.run(t, c.sequence(t, "full", cache.Budget{}, 0), c.ids[:5], 5, false)[0]
	r := c.forward(t,
		Work{Sequence: c.sequence(t, "full", cache.Budget{}, 0), Tokens: c.ids[:5], Logits: true},
		Work{Sequence: c.sequence(t, "full", cache.Budget{}, 0), Tokens: c.ids[:40], Logits: true, Done: done})
	if r[0].Abandoned || !slices.Equal(r[0].Logits, want) {
		t.Error("the block beside an abandoned one was harmed")
	}
	if !r[1].Abandoned || r[1].Logits != nil {
		t.Errorf("a block that is not wanted was computed: %v", r[1].Abandoned)
	}
}

func (c *conformance) checkRefusals(t *testing.T) {
	s := c.sequence(t, "full", cache.Budget{}, 0)
	vocab := int32(c.b.Config().Vocab)
	for want, works := range map[string][]Work{
		"0 sequences":            nil,
		"has no tokens":          {{Sequence: s}},
		"outside the vocabulary": {{Sequence: s, Tokens: []int32{1, vocab}}},
		"token 0":                {{Sequence: s, Tokens: []int32{-1}}},
		"target 1":               {{Sequence: s, Tokens: []int32{1, 2}, Targets: []int32{1, vocab}}},
		"1 targets":              {{Sequence: s, Tokens: []int32{1, 2}, Targets: []int32{1}}},
		"more than":              {{Sequence: s, Tokens: make([]int32, 200)}, {Sequence: c.sequence(t, "full", cache.Budget{}, 0), Tokens: make([]int32, 200)}},
		"another backend":        {{Tokens: []int32{1}}},
		"appears twice":          {{Sequence: s, Tokens: []int32{1}}, {Sequence: c.sequence(t, "full", cache.Budget{}, 0), Tokens: []int32{1}}, {Sequence: s, Tokens: []int32{1}}},
		"is wanted":              {{Sequence: s, Tokens: []int32{1}, Logits: true}, {Sequence: s, Tokens: []int32{1}}},
		"context":                {{Sequence: s, Tokens: make([]int32, c.b.Config().Context+1)}},
	} {
		if _, err := c.b.Forward(works); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
	if s.Position() != 0 {
		t.Error("a refused batch moved a sequence")
	}
}

func TestConformance(t *testing.T) {
	for _, test := range []struct {
		math      Math
		tolerance float64
	}{{Float32, 1e-4}, {Int8, 0.03}} {
		t.Run(string(test.math), func(t *testing.T) {
			c := newCPU(t, tinyPath, test.math, Limits{Tokens: 300, Sequences: 12})
			if err := c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)); err != nil {
				t.Fatal(err)
			}
			f := readFixture(t, "tiny.safetensors")
			conform(t, c, f.ints("ids"), f.floats("logits"), test.tolerance)
		})
	}
}
