package model

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/lesskernels"
)

// off is a gate that switches every second KV head's state off, and open one that
// lets all pass, weighed differently.
func off(_, kvHead int) float32 {
	if kvHead%2 == 1 {
		return float32(math.Inf(-1))
	}
	return 0.5
}

func open(layer, kvHead int) float32 { return 0.5 - float32(layer+kvHead)/4 }

// masked is the attention that a run should have given, in masked-parallel form and
// float64: every token at once, over what it saw exactly and, by segment, over what
// was evicted before it.
func (r *layerRun) masked(maps *lesskernels.Maps, low func(q []float64, token, head int, evicted []int) segment64) []float64 {
	config := r.c.config
	scale := 1 / math.Sqrt(float64(config.HeadDim))
	var out []float64
	for token := range r.held {
		for head := range config.Heads {
			kvHead := head / config.Group()
			before := doubles(rowOf(r.q, token*config.Heads+head, config.HeadDim))
			q := r.c.turned(before, token)
			var logs []float64
			var values [][]float64
			see := func(position int, key []float64) {
				logs = append(logs, scale*dot64(q, key))
				values = append(values, r.wide(r.storedV, position, kvHead))
			}
			held := r.held[token][kvHead]
			evicted := absent(held, r.first[token])
			for i, position := range held {
				key := r.wide(r.storedK, int(position), kvHead)
				if by := r.first[token] - len(held) + i - int(position); r.s.Plan().Spec.Unlimited() && by != 0 {
					want := r.c.turned(key, by)
					got := make([]float32, config.HeadDim)
					r.c.widen(got, rowOf(r.segments[token][kvHead], i, r.c.stored))
					for j, x := range got {
						if pair := math.Hypot(want[j&^1], want[j|1]); !(math.Abs(float64(x)-want[j]) <= r.rounding(int(position))*pair+1e-6) {
							r.t.Fatalf("token %d: key %d is not turned by %d positions: %v, want %v", token, position, by, x, want[j])
						}
					}
					key = doubles(got)
				}
				see(int(position), key)
			}
			for position := r.first[token]; position <= token; position++ {
				see(position, r.wide(r.storedK, position, kvHead))
			}
			s := weigh(logs, values, config.HeadDim)
			if len(evicted) > 0 && low != nil {
				asked := q
				if maps != nil && maps.Header.Inputs == lesskernels.PreRoPE {
					asked = before
				}
				if l := low(asked, token, head, evicted); !math.IsInf(l.lse, -1) {
					s.merge(l)
				}
			}
			out = append(out, s.out...)
		}
	}
	return out
}

// rounding is how far a key may be from where it was turned to, as a part of its
// pair: sinks are turned once, others again and again.
func (r *layerRun) rounding(position int) float64 {
	switch {
	case r.c.math == Float32:
		return 1e-3
	case position < cache.SinkTokens:
		return 1. / 128
	}
	return 1. / 16
}

// less is LESS's segment of attention over evicted tokens in matrix form.
func (r *layerRun) less(maps *lesskernels.Maps) func(q []float64, token, head int, evicted []int) segment64 {
	f, config := maps.Layers[0], r.c.config
	psi := make([][]float32, len(r.held)*config.KVHeads)
	for token := range r.held {
		for kvHead := range config.KVHeads {
			key := r.wide(r.storedK, token, kvHead)
			if maps.Header.Inputs == lesskernels.PreRoPE {
				key = r.c.turned(key, -token)
			}
			features := make([]float32, f.Rank)
			f.Psi(features, kvHead, singles(key))
			psi[token*config.KVHeads+kvHead] = features
		}
	}
	return func(q []float64, at, head int, evicted []int) segment64 {
		kvHead := head / config.Group()
		rates := f.Rates(kvHead)
		phi := make([]float32, f.Rank)
		f.Phi(phi, head, singles(q))
		s, mass := segment64{out: make([]float64, config.HeadDim)}, 0.0
		for _, token := range evicted {
			w := 0.0
			for r, x := range psi[token*config.KVHeads+kvHead] {
				w += float64(phi[r]) * float64(x) * math.Exp(-rates[r]*float64(at-token))
			}
			mass += w
			for i, v := range r.wide(r.storedV, token, kvHead) {
				s.out[i] += w * v
			}
		}
		mass = math.Max(mass, lesskernels.Epsilon)
		for i := range s.out {
			s.out[i] /= mass
		}
		s.lse = math.Log(mass) + float64(maps.GateOf(r.s.Plan().Spec.Policy).LogScale[0][kvHead])
		return s
	}
}

// moments is MomentKV's segment over evicted tokens, from its definition.
func (r *layerRun) moments() func(q []float64, token, head int, evicted []int) segment64 {
	dim := r.c.config.HeadDim
	scale := 1 / math.Sqrt(float64(dim))
	return func(q []float64, _, head int, evicted []int) segment64 {
		kvHead, n := head/r.c.config.Group(), float64(len(evicted))
		key, value := make([]float64, dim), make([]float64, dim)
		for _, token := range evicted {
			for i, x := range r.wide(r.storedK, token, kvHead) {
				key[i] += x / n
			}
			for i, x := range r.wide(r.storedV, token, kvHead) {
				value[i] += x / n
			}
		}
		s := segment64{out: slices.Clone(value), lse: scale*dot64(q, key) + math.Log(n)}
		for _, token := range evicted {
			deviation := 0.0
			for i, x := range r.wide(r.storedK, token, kvHead) {
				deviation += scale * q[i] * (x - key[i])
			}
			for i, x := range r.wide(r.storedV, token, kvHead) {
				s.out[i] += deviation * (x - value[i]) / n
			}
		}
		return s
	}
}

func (r *layerRun) near(want []float64, tolerance float64) {
	r.t.Helper()
	worst := 0.0
	for i, x := range r.out {
		d := math.Abs(float64(x) - want[i])
		if !(d <= tolerance) {
			dim := r.c.config.HeadDim
			r.t.Fatalf("token %d, head %d: output %d is %v, want %v", i/dim/r.c.config.Heads, i/dim%r.c.config.Heads, i%dim, x, want[i])
		}
		worst = max(worst, d)
	}
	if len(r.out) != len(want) {
		r.t.Fatalf("%d outputs, want %d", len(r.out), len(want))
	}
	r.t.Logf("within %.1e; %+v", worst, r.s.Held())
}

// The recurrent form is the masked-parallel one: absorbing what is evicted, token by
// token or in blocks, and asking the state gives for every token attention over what
// it saw exactly and the matrix form over what was evicted before it.
func TestRecurrentIsMaskedParallel(t *testing.T) {
	policies := []string{"h2o", "tova", "sinks", "streaming", "vote", "buzz", "corm", "cascade", "snapkv"}
	inputs := []lesskernels.Inputs{lesskernels.PreRoPE, lesskernels.PostRoPE}
	i := 0
	for _, dim := range []int{64, 128, 256} {
		for _, group := range []int{1, 3, 4, 8} {
			for _, m := range []Math{Int8, Float32} {
				policy, input := policies[i%len(policies)], inputs[i/2%2]
				i++
				t.Run(fmt.Sprintf("%s/%s/%s/%dx%d", policy, input, m, dim, group), func(t *testing.T) {
					c := synthetic(t, m, dim, group, 2, 300)
					maps := syntheticMaps(c.config, 5, input, open)
					if err := c.UseMaps(maps); err != nil {
						t.Fatal(err)
					}
					budget := cache.Budget{Tokens: 39 + i%4}
					tokenByToken := newLayerRun(t, c, policy+"+less", budget, 1, 71).feedAll(1)
					again := 0.0 // a key that was turned again and again is absorbed as far from itself
					if m == Int8 && (policy == "buzz" || policy == "cascade") {
						again = 0.05
					} else if policy == "buzz" || policy == "cascade" {
						again = 1e-3
					}
					tokenByToken.near(tokenByToken.masked(maps, tokenByToken.less(maps)), 1e-5+again)
					blocks := newLayerRun(t, c, policy+"+less", budget, 6, 131).feedAll(7, 70, 1, 1, 1, 3)
					blocks.near(blocks.masked(maps, blocks.less(maps)), 2e-4+again)
					plain := newLayerRun(t, c, policy, budget, 3, 70).feedAll(11, 1, 1)
					plain.near(plain.masked(nil, nil), 1e-5)
					moment := newLayerRun(t, c, policy+"+moment", budget, 3, 70).feedAll(11, 1, 1)
					moment.near(moment.masked(nil, moment.moments()), 1e-5+again)
				})
			}
		}
	}
}

// A budget that holds everything gives the full cache's outputs to the last bit,
// whatever state stands ready; so does a gate that is off give the policy's own.
func TestStateThatIsNotNeeded(t *testing.T) {
	for _, group := range []int{1, 3} {
		c := synthetic(t, Int8, 64, group, 2, 200)
		full := newLayerRun(t, c, "full", cache.Budget{}, 0, 83).feedAll(9, 1).out
		shut := func(int, int) float32 { return float32(math.Inf(-1)) }
		var plain []float32
		for _, policy := range []string{"sinks", "streaming", "h2o", "tova", "snapkv", "vote", "buzz", "corm", "cascade"} {
			c.memory = memory{}
			plain = newLayerRun(t, c, policy, cache.Budget{Tokens: 40}, 2, 83).feedAll(9, 1).out
			if slices.Equal(plain, full) {
				t.Errorf("%s: 40 of 83 tokens give what all give", policy)
			}
			for name, gate := range map[string]func(int, int) float32{"open": open, "shut": shut} {
				if err := c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, gate)); err != nil {
					t.Fatal(err)
				}
				if got := newLayerRun(t, c, policy+"+less", cache.Budget{Percent: 100}, 2, 83).feedAll(9, 1).out; !slices.Equal(got, full) {
					t.Errorf("%s+less, gate %s, with a budget of the context: other outputs than the full cache", policy, name)
				}
				run := newLayerRun(t, c, policy+"+less", cache.Budget{Tokens: 40}, 2, 83).feedAll(9, 1)
				if equal := slices.Equal(run.out, plain); equal != (name == "shut") {
					t.Errorf("%s+less, gate %s: outputs equal to the policy's alone: %v", policy, name, equal)
				}
				if absorbed := run.s.Held().Absorbed; (absorbed == 0) != (name == "shut") {
					t.Errorf("%s+less, gate %s: absorbed %d", policy, name, absorbed)
				}
			}
		}
	}
}

// A policy of its own gate has the states of that gate, and the others those of theirs.
func TestGateOfPolicy(t *testing.T) {
	c := synthetic(t, Int8, 64, 3, 2, 200)
	maps := syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)
	shut := float32(math.Inf(-1))
	maps.SetGate(cache.Sinks, [][]float32{{shut, shut}}, lesskernels.GateReport{Validated: 200})
	maps.SetGate(cache.TOVA, [][]float32{{3, shut}}, lesskernels.GateReport{Validated: 200})
	if err := c.UseMaps(maps); err != nil {
		t.Fatal(err)
	}
	run := func(spec string) []float32 {
		return newLayerRun(t, c, spec, cache.Budget{Tokens: 30}, 2, 90).feedAll(30, 20, 1, 1).out
	}
	if !slices.Equal(run("sinks+less"), run("sinks")) {
		t.Error("states that are off for sinks change its attention")
	}
	for policy, ranks := range map[string][]int{cache.H2O: {3, 3}, cache.TOVA: {3, 0}, cache.Sinks: {0, 0}} {
		if got := c.Shape(policy).Ranks; !slices.Equal(got, ranks) {
			t.Errorf("%s: ranks %v, want %v", policy, got, ranks)
		}
	}
	r := newLayerRun(t, c, "tova+less", cache.Budget{Tokens: 30}, 1, 90).feedAll(30, 20, 1, 1)
	r.near(r.masked(maps, r.less(maps)), 2e-4)
}

// Beyond the length that the maps were validated for, no state is asked.
func TestValidatedLength(t *testing.T) {
	c := synthetic(t, Int8, 64, 3, 2, 200)
	maps := syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)
	run := func(spec string, validated int) []float32 {
		maps.SetGate(lesskernels.Others, maps.LogScales[lesskernels.Others], lesskernels.GateReport{Validated: validated})
		if err := c.UseMaps(maps); err != nil {
			t.Fatal(err)
		}
		return newLayerRun(t, c, spec, cache.Budget{Tokens: 30}, 2, 90).feedAll(30, 20, 1, 1).out
	}
	width := c.config.Heads * c.config.HeadDim
	plain, all, some := run("h2o", 90), run("h2o+less", 90), run("h2o+less", 67)
	if !slices.Equal(some[:67*width], all[:67*width]) || !slices.Equal(some[67*width:], plain[67*width:]) || slices.Equal(plain, all) {
		t.Error("the state is not asked up to position 66, or is asked beyond")
	}
}

// A stream far beyond the model's context holds the same bytes to the last one and
// stays finite.
func TestStreamBeyondTheContext(t *testing.T) {
	c := synthetic(t, Int8, 64, 3, 1, 128)
	maps := syntheticMaps(c.config, 4, lesskernels.PreRoPE, open)
	if err := c.UseMaps(maps); err != nil {
		t.Fatal(err)
	}
	const tokens = 1000
	r := newLayerRun(t, c, "streaming+less", cache.Budget{Tokens: 50}, 4, tokens)
	var bytes []int64
	for r.s.Position() < tokens {
		r.feed(min(9, tokens-r.s.Position()))
		bytes = append(bytes, r.s.Plan().Bytes)
	}
	for i, x := range r.out {
		if !(math.Abs(float64(x)) <= 10) {
			t.Fatalf("output %d is %v", i, x)
		}
	}
	if held := r.s.Held(); held.Absorbed != held.Evicted || held.Kept+held.Evicted != tokens || slices.Min(bytes) != slices.Max(bytes) {
		t.Errorf("held %+v of %d tokens, bytes from %d to %d", held, tokens, slices.Min(bytes), slices.Max(bytes))
	}
	r.near(r.masked(maps, r.less(maps)), 2e-4)
	if _, err := c.newBatch([]Work{{Sequence: newSequence(t, c, "sinks", cache.Budget{Tokens: 50}), Tokens: make([]int32, 129)}}); err == nil {
		t.Error("a cache that renumbers nothing runs beyond the context")
	}
}

// Maps of another shape are refused.
func TestUseMapsRefuses(t *testing.T) {
	c := synthetic(t, Int8, 64, 3, 2, 64)
	for name, change := range map[string]func(*lesskernels.Maps){
		"no layers":      func(m *lesskernels.Maps) { m.Layers = nil },
		"no gate":        func(m *lesskernels.Maps) { m.Header.Gates = nil },
		"a short gate":   func(m *lesskernels.Maps) { m.LogScales[lesskernels.Others][0] = []float32{0} },
		"other heads":    func(m *lesskernels.Maps) { m.Layers[0].Heads = 2 },
		"other KV heads": func(m *lesskernels.Maps) { m.Layers[0].KVHeads = 1 },
		"other keys":     func(m *lesskernels.Maps) { m.Layers[0].HeadDim = 32 },
	} {
		maps := syntheticMaps(c.config, 3, lesskernels.PreRoPE, open)
		change(maps)
		if err := c.UseMaps(maps); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if c.Shape(cache.H2O).Ranks != nil {
		t.Error("refused maps give states")
	}
	if err := c.UseMaps(syntheticMaps(c.config, 3, lesskernels.PreRoPE, off)); err != nil || !slices.Equal(c.Shape(cache.H2O).Ranks, []int{3, 0}) {
		t.Errorf("ranks %v, %v", c.Shape(cache.H2O).Ranks, err)
	}
}
