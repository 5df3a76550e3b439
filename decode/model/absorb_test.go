package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lessrag/decode/cache"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// What is absorbed in whatever grouping gives the same state to the bit, and in
// another order the same to rounding.
func TestAbsorbInAnyGrouping(t *testing.T) {
	const tokens = 150
	for _, spec := range []string{"sinks+less", "sinks+moment"} {
		for _, dim := range []int{64, 128, 256} {
			c := synthetic(t, Int8, dim, 1, 1, 200)
			if err := c.UseMaps(syntheticMaps(c.config, 7, lesskernels.PreRoPE, open)); err != nil {
				t.Fatal(err)
			}
			random := rand.New(rand.NewPCG(8, 9))
			k, v := make([]uint16, tokens*dim), make([]uint16, tokens*dim)
			for i := range k {
				k[i], v[i] = bits16(random.NormFloat64()), bits16(random.NormFloat64())
			}
			absorb := func(groups [][]int) *cache.State {
				state := newSequence(t, c, spec, cache.Budget{Tokens: 20}).State(0, 0)
				for _, group := range groups {
					for _, token := range group {
						c.collect(state, 0, 0, rowOf(k, token, dim), rowOf(v, token, dim), nil, []int32{int32(token)})
						state.Absorbed++
					}
					c.absorb()
				}
				return state
			}
			var one, some [][]int
			order := random.Perm(tokens)
			for i := range tokens {
				one = append(one, []int{i})
				if i%37 == 0 {
					some = append(some, nil)
				}
				some[len(some)-1] = append(some[len(some)-1], i)
			}
			want := absorb(one)
			for name, groups := range map[string][][]int{"blocks": some, "another order": {order}} {
				got := absorb(groups)
				for _, part := range [][2][]float32{{got.H, want.H}, {got.Z, want.Z}, {got.KeyMean, want.KeyMean}, {got.ValueMean, want.ValueMean}, {got.Covariance, want.Covariance}} {
					for i, x := range part[0] {
						tolerance := 0.0
						if name == "another order" {
							tolerance = 1e-5 * (1 + math.Abs(float64(x)))
						}
						if !(math.Abs(float64(x-part[1][i])) <= tolerance) {
							t.Fatalf("%s, %d dimensions, %s: %v, one by one %v", spec, dim, name, x, part[1][i])
						}
					}
				}
			}
		}
	}
}

// Groups whose ψ was computed before they were packed are absorbed in their order, by one
// thread, whatever others absorb beside them.
func TestAbsorbGroupsInOrder(t *testing.T) {
	const groups, group, rank = 40, 3, 7
	c := synthetic(t, Int8, 64, 1, 2, 200)
	c.pool = cpu.NewPool(4)
	t.Cleanup(c.pool.Close)
	c.activations = newActivations(c.config, c.stored, c.limits, 4)
	if err := c.UseMaps(syntheticMaps(c.config, rank, lesskernels.PreRoPE, open)); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(8, 9))
	k, v, psi := make([]uint16, group*64), make([]uint16, groups*group*64), make([]uint16, groups*group*rank)
	for i := range v {
		v[i] = bits16(random.NormFloat64())
	}
	for i := range psi {
		psi[i] = bits16(math.Abs(random.NormFloat64()))
	}
	absorb := func(together bool) (states [2]*cache.State) {
		s := newSequence(t, c, "sinks+less", cache.Budget{Tokens: 20})
		for head := range states {
			states[head] = s.State(0, head)
			for i := range groups {
				at := []int32{int32(3 * i), int32(3*i + 1), int32(3*i + 2)}
				c.collect(states[head], 0, head, k, v[i*group*64:(i+1)*group*64], psi[i*group*rank:(i+1)*group*rank], at)
				if !together {
					c.absorb()
				}
			}
		}
		c.absorb()
		return states
	}
	want := absorb(false)
	for range 50 {
		for head, got := range absorb(true) {
			if !slices.Equal(got.H, want[head].H) || !slices.Equal(got.Z, want[head].Z) {
				t.Fatalf("KV head %d: groups that were absorbed together give another state", head)
			}
		}
	}
}

func bits16(x float64) uint16 { return uint16(math.Float32bits(float32(x)) >> 16) }
