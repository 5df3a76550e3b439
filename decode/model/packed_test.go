package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"lessrag/decode/cache"
	"lessrag/lesskernels"
)

// everyCache are all combinations of caches that parse.
func everyCache() []cache.Spec {
	var specs []cache.Spec
	for _, policy := range []string{"full", "sinks", "streaming", "h2o", "tova", "snapkv", "vote", "buzz", "corm", "cascade", "elastic", "elastic-values"} {
		for _, state := range []string{"", "+less", "+moment"} {
			for _, bits := range []string{"", "+kivi4", "+kivi2"} {
				for _, think := range []string{"", "+think"} {
					if spec, err := cache.ParseSpec(policy + state + bits + think); err == nil {
						specs = append(specs, spec)
					}
				}
			}
		}
	}
	return specs
}

// A budget beyond the context makes every cache a full one, whatever is composed: bit
// for bit in 16 bits, and until the first tokens are packed; then within what the codec
// loses.
func TestEveryCacheIsDenseBelowItsBudget(t *testing.T) {
	const tokens, recent, budget = 300, 132, 390
	c := synthetic(t, Int8, 64, 3, 2, 400)
	if err := c.UseMaps(syntheticMaps(c.config, 5, lesskernels.PreRoPE, open)); err != nil {
		t.Fatal(err)
	}
	ids := make([]int32, tokens)
	for i := range ids {
		ids[i] = int32(i*i*7+i) % 32
	}
	run := func(spec cache.Spec) [][]float32 {
		s := newSequenceEvery(t, c, spec.String(), cache.Budget{Tokens: budget}, 4)
		var logits [][]float32
		for at := 0; at < tokens; {
			n := 1
			if at < 100 || at > 150 {
				n = min(25, tokens-at)
			}
			logits = append(logits, slices.Clone(forward(t, c, Work{Sequence: s, Tokens: ids[at : at+n], Logits: true}).Logits))
			at += n
		}
		if held := s.Held(); held.Evicted != 0 || held.Kept != tokens {
			t.Fatalf("%s: %+v of %d tokens", spec, held, tokens)
		}
		return logits
	}
	dense := run(cache.Spec{Policy: cache.Full})
	for _, spec := range everyCache() {
		got := run(spec)
		position := 0
		for i := range dense {
			position += 25
			if i > 3 && i < 56 {
				position -= 24
			}
			if !spec.Packs() || position <= recent {
				if !slices.Equal(got[i], dense[i]) {
					t.Errorf("%s: other logits at position %d", spec, position)
					break
				}
				continue
			}
			var lost, all float64
			for j, x := range dense[i] {
				lost += float64((got[i][j] - x) * (got[i][j] - x))
				all += float64(x * x)
			}
			most := map[int]float64{0: 0.05, 4: 0.05, 2: 0.15}[spec.Bits] // of the logits' norm
			if share := math.Sqrt(lost / all); !(share <= most) {
				t.Errorf("%s: at position %d logits lose %.3f of their norm", spec, position, share)
				break
			}
		}
	}
}

// Fed through the layer of a model, caches that pack and absorb give the attention that
// their own parts say: the state of LESS takes ψ of the whole keys, whatever was pruned.
func TestAbsorbsPsiOfWholeKeys(t *testing.T) {
	c := synthetic(t, Int8, 64, 3, 2, 2000)
	maps := syntheticMaps(c.config, 5, lesskernels.PreRoPE, open)
	if err := c.UseMaps(maps); err != nil {
		t.Fatal(err)
	}
	ids := make([]int32, 700)
	for i := range ids {
		ids[i] = int32(i*i*5+i) % 32
	}
	state := func(spec string) *cache.Sequence {
		s := newSequenceEvery(t, c, spec, cache.Budget{Tokens: 300}, 4)
		for at := 0; at < len(ids); at += 20 {
			forward(t, c, Work{Sequence: s, Tokens: ids[at : at+20]})
		}
		return s
	}
	// Of the same policy with groups of the same tokens: z sums ψ of keys that a model of
	// one layer computes alike in all of them.
	whole, pruned := state("sinks+less+kivi4"), state("sinks+less+kivi4+think90")
	for head := range 2 {
		a, b := whole.State(0, head), pruned.State(0, head)
		if a.Absorbed != b.Absorbed || a.Absorbed == 0 {
			t.Fatalf("%d and %d tokens absorbed", a.Absorbed, b.Absorbed)
		}
		for r := range a.Z {
			if diff := math.Abs(float64(a.Z[r] - b.Z[r])); !(diff <= 0.02*math.Abs(float64(a.Z[r]))) {
				t.Errorf("head %d: z[%d] is %v with a tenth of the channels, %v with all", head, r, b.Z[r], a.Z[r])
			}
		}
	}
}

// BenchmarkPackedDepth is a decoding step of the default reader behind 8,000 tokens, each
// cache in turn: keys and values are of chance, put there without a prefill. It reports the
// median milliseconds of a step, and of the first cache's how many of this one's it takes.
func BenchmarkPackedDepth(b *testing.B) {
	const depth, block = 8000, 100
	c := newCPU(b, readerPath(), Int8, Limits{Tokens: 128, Sequences: 4})
	random := rand.New(rand.NewPCG(1, 2))
	k, v := make([]uint16, block*c.config.KVHeads*c.stored), make([]uint16, block*c.config.KVHeads*c.stored)
	for i := range k {
		k[i], v[i] = bits16(random.NormFloat64()), bits16(random.NormFloat64())
	}
	specs := []string{"full", "full+kivi4", "full+kivi2", "full+think", "full+kivi4+think"}
	sequences := make([]*cache.Sequence, len(specs))
	for i, spec := range specs {
		s := newSequence(b, c, spec, cache.Budget{Tokens: 8190})
		for s.Position() < depth {
			for layer := range c.config.Layers {
				s.MakeRoom(layer, block)
				if !s.Fits(layer, block) {
					s.Insert(layer, k, v, nil)
					continue
				}
				for head := range c.config.KVHeads {
					size := block * c.stored
					s.Append(layer, head, k[head*size:(head+1)*size], v[head*size:(head+1)*size])
				}
			}
			s.Advance(block)
		}
		sequences[i] = s
	}
	spent := make([][]float64, len(specs))
	for n := 0; b.Loop() && n < 180; n++ {
		for i, s := range sequences {
			began := time.Now()
			forward(b, c, Work{Sequence: s, Tokens: []int32{int32(1000 + n)}, Logits: true})
			spent[i] = append(spent[i], time.Since(began).Seconds()*1e3)
		}
	}
	b.ReportMetric(0, "ns/op")
	var first float64
	for i, spec := range specs {
		slices.Sort(spent[i])
		median := spent[i][len(spent[i])/2]
		if i == 0 {
			first = median
		}
		b.ReportMetric(median, spec+"-ms")
		b.ReportMetric(first/median, spec+"-ratio")
	}
}
