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

// offNorm is by how much of its norm got is off want, at worst of several.
func offNorm(got, want [][]float32) float64 {
	worst := 0.0
	for i := range want {
		var off, whole float64
		for j, x := range want[i] {
			off += float64(got[i][j]-x) * float64(got[i][j]-x)
			whole += float64(x) * float64(x)
		}
		if share := math.Sqrt(off / whole); !(share <= worst) {
			worst = share
		}
	}
	return worst
}

// partly is a gate that has switched the states of a KV head off.
func partly(layer, kvHead int) float32 {
	if layer == 1 && kvHead == 0 {
		return float32(math.Inf(-1))
	}
	return float32(layer+kvHead) / 2
}

// Caches that evict give the logits of the CPU's, whether their blocks fit, make room first, or are
// larger than all of it.
func TestCUDACaches(t *testing.T) {
	pool := cpu.NewPool(0)
	t.Cleanup(pool.Close)
	exact, err := NewCPU(parse(t, quantised), Float32, Limits{Tokens: 64, Sequences: 1}, pool)
	if err != nil {
		t.Fatal(err)
	}
	maps := syntheticMaps(exact.config, 5, lesskernels.PreRoPE, partly)
	if err := exact.UseMaps(maps); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(9, 10))
	ids := make([]int32, 120)
	for i := range ids {
		ids[i] = random.Int32N(gguftest.Vocab)
	}
	onDevices(t, quantised, Limits{Tokens: 64, Sequences: 1}, func(t *testing.T, c *CUDA) {
		if err := c.UseMaps(maps); err != nil {
			t.Fatal(err)
		}
		for i, test := range []struct{ budget, interval, block, tokens int }{{12, 3, 2, 40}, {20, 6, 5, 60}, {15, 1, 40, 120}, {9, 4, 12, 60}, {38, 4, 9, 81}} {
			for j, spec := range []string{"sinks", "sinks+less", "streaming", "streaming+less", "h2o", "h2o+less", "tova", "tova+less", "buzz", "buzz+less", "cascade", "cascade+less", "elastic", "elastic-values", "corm", "corm+less", "sinks+moment", "streaming+moment", "tova+moment", "h2o+moment", "snapkv", "vote+less", "vote+moment"} {
				if parsed, _ := cache.ParseSpec(spec); parsed.AsksQuestion() != (i == 4) { // nothing was asked: tova stands in
					continue
				}
				if j > 1 && (i+j/2)%2 == 0 && i < 4 {
					continue // every other one, for the time
				}
				t.Run(fmt.Sprintf("%s %+v", spec, test), func(t *testing.T) {
					on := func(b backend) (conformance, Sequence) {
						one := conformance{b: b}
						return one, one.sequence(t, spec, cache.Budget{Tokens: test.budget}, test.interval)
					}
					card, s := on(c)
					host, want := on(exact)
					worst, evictions := 0.0, 0
					for from := 0; from < test.tokens; from += test.block {
						block := ids[from:min(test.tokens, from+test.block)]
						logits := host.run(t, want, block, len(block), true)
						worst = max(worst, offNorm(card.run(t, s, block, len(block), true), logits))
						held, reference := s.Held(), want.Held()
						reference.Bytes = held.Bytes // keys are stored in two parts there
						if held != reference {
							t.Fatalf("after %d tokens held %+v, want %+v", from, held, reference)
						}
						if other := exchanged(s.(*cudaSequence), want.(*cache.Sequence)); other == 1 && evictions >= leastEvictions(spec) {
							t.Logf("two tokens are as good as one another: %d blocks compared, after %d evictions", from/test.block+1, evictions)
							break
						} else if other > 0 {
							t.Fatalf("after %d tokens and %d evictions, %d tokens of a KV head are held that the CPU has evicted", from, evictions, other)
						}
						if held.Evicted > 0 {
							evictions++
						}
					}
					if t.Logf("logits within %.2g of their norm", worst); !(worst <= 0.03) {
						t.Errorf("logits off by %.2g of their norm", worst)
					}
				})
			}
		}
	})
}

// leastEvictions is after how many evictions two tokens may have got the same attention up to rounding. buzz compares
// tokens five by five, and finds such ones sooner; corm looks only at whether a query gave its equal share.
func leastEvictions(spec string) int {
	if strings.HasPrefix(spec, cache.CORM) {
		return 1
	}
	if strings.HasPrefix(spec, cache.BUZZ) {
		return 2
	}
	return 5
}

// exchanged is how many tokens a KV head of the card holds, at most, that the CPU's does not.
func exchanged(s *cudaSequence, want *cache.Sequence) int {
	most, shape := 0, s.plan.Shape
	for i := range shape.Layers * shape.KVHeads {
		layer, head := i/shape.KVHeads, i%shape.KVHeads
		held := s.books.Positions(layer%s.books.layers(), head%s.books.heads)
		n := 0
		for _, position := range held {
			if !slices.Contains(want.Positions(layer, head), position) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// States are asked up to the tokens that their gate was validated to, and not beyond.
func TestCUDAValidated(t *testing.T) {
	pool := cpu.NewPool(0)
	t.Cleanup(pool.Close)
	exact, err := NewCPU(parse(t, quantised), Float32, Limits{Tokens: 64, Sequences: 1}, pool)
	if err != nil {
		t.Fatal(err)
	}
	maps := syntheticMaps(exact.config, 3, lesskernels.PreRoPE, open)
	scale := maps.GateOf(cache.Sinks).LogScale
	for _, row := range scale {
		for i := range row {
			row[i] = 3 // so that it matters
		}
	}
	maps.SetGate(cache.Sinks, scale, lesskernels.GateReport{Validated: 30})
	if err := exact.UseMaps(maps); err != nil {
		t.Fatal(err)
	}
	ids := make([]int32, 48)
	for i := range ids {
		ids[i] = int32(i * 7 % gguftest.Vocab)
	}
	onDevices(t, quantised, Limits{Tokens: 64, Sequences: 1}, func(t *testing.T, c *CUDA) {
		if err := c.UseMaps(maps); err != nil {
			t.Fatal(err)
		}
		run := func(b backend, spec string) [][]float32 {
			one := conformance{b: b}
			return one.run(t, one.sequence(t, spec, cache.Budget{Tokens: 8}, 2), ids, 8, true)
		}
		got, want, without := run(c, "sinks+less"), run(exact, "sinks+less"), run(c, "sinks")
		if worst := offNorm(got, want); !(worst <= 0.03) {
			t.Errorf("logits off by %.2g of their norm", worst)
		}
		if off := offNorm(without[2:3], got[2:3]); !(off > 0.1) {
			t.Errorf("states change logits by %.2g of their norm: the test says nothing", off)
		}
	})
}

// Feature maps that kernels do not take, or that do not fit, are refused, and leave nothing behind.
func TestCUDARefusesMaps(t *testing.T) {
	d := ptx.New(1 << 25)
	c, err := NewCUDA(parse(t, quantised), Limits{Tokens: 8, Sequences: 1}, 0, d)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := d.Info()
	other := c.config
	other.Layers = 1
	for want, maps := range map[string]*lesskernels.Maps{
		"rank 17":                   syntheticMaps(c.config, 17, lesskernels.PreRoPE, open),
		"1 layers for a model of 2": syntheticMaps(other, 3, lesskernels.PreRoPE, open),
		"bytes are free on":         syntheticMapsOf(c.config, 9000, 3, lesskernels.PreRoPE, open),
	} {
		if err := c.UseMaps(maps); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
	}
	if after, _ := d.Info(); after.Free != info.Free || c.Shape(cache.Sinks).Ranks != nil {
		t.Errorf("%d bytes stay taken", info.Free-after.Free)
	}
	c.Close()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// Feature maps of rotated queries and keys give the logits of the CPU's with them, and not those of maps that take them as
// they were before.
func TestCUDATurnedMaps(t *testing.T) {
	pool := cpu.NewPool(0)
	t.Cleanup(pool.Close)
	strong := func(layer, kvHead int) float32 { return 3 }
	maps := map[lesskernels.Inputs]*lesskernels.Maps{}
	hosts := map[lesskernels.Inputs]*CPU{}
	for _, inputs := range []lesskernels.Inputs{lesskernels.PreRoPE, lesskernels.PostRoPE} {
		exact, err := NewCPU(parse(t, quantised), Float32, Limits{Tokens: 64, Sequences: 1}, pool)
		if err != nil {
			t.Fatal(err)
		}
		maps[inputs] = syntheticMaps(exact.config, 5, inputs, strong)
		if err := exact.UseMaps(maps[inputs]); err != nil {
			t.Fatal(err)
		}
		hosts[inputs] = exact
	}
	ids := make([]int32, 50)
	for i := range ids {
		ids[i] = int32(i * 11 % gguftest.Vocab)
	}
	onDevices(t, quantised, Limits{Tokens: 64, Sequences: 1}, func(t *testing.T, c *CUDA) {
		if err := c.UseMaps(maps[lesskernels.PostRoPE]); err != nil {
			t.Fatal(err)
		}
		for _, spec := range []string{"sinks+less", "streaming+less"} {
			run := func(b backend) (logits [][]float32) {
				one := conformance{b: b}
				s := one.sequence(t, spec, cache.Budget{Tokens: 12}, 3)
				for from := 0; from < len(ids); from += 7 {
					n := min(7, len(ids)-from)
					logits = append(logits, one.run(t, s, ids[from:from+n], n, true)...)
				}
				return logits
			}
			got, want, other := run(c), run(hosts[lesskernels.PostRoPE]), run(hosts[lesskernels.PreRoPE])
			if worst := offNorm(got, want); !(worst <= 0.03) {
				t.Errorf("%s: logits off by %.2g of their norm", spec, worst)
			} else if t.Logf("%s: logits within %.2g of their norm, and %.2g from maps of unrotated keys", spec, worst, offNorm(got, other)); !(offNorm(got, other) > 0.1) {
				t.Errorf("%s: it makes no difference what the maps take: the test says nothing", spec)
			}
		}
	})
}
