package cache

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/vectortest"
)

// The vectors of lesskernels: one layer of 6 query and 2 KV heads and 48 tokens,
// run in float64 by an independent program.
const (
	vHeads, vKVHeads, vDim, vHidden, vRank = 6, 2, 16, 32, 8
	vTokens, vGroup                        = 48, vHeads / vKVHeads
)

type vectors map[string]struct {
	Shape []int     `json:"shape"`
	Data  []float64 `json:"data"`
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	return readVectorsOf(t, "../../lesskernels/testdata/less_h2o_small.json.gz")
}

func readVectorsOf(t *testing.T, path string) vectors {
	t.Helper()
	v := vectors{}
	vectortest.Read(t, path, &v)
	return v
}

func (v vectors) floats(t *testing.T, name string) []float32 {
	t.Helper()
	if len(v[name].Data) == 0 {
		t.Fatalf("no vector %s", name)
	}
	out := make([]float32, len(v[name].Data))
	for i, x := range v[name].Data {
		out[i] = float32(x)
	}
	return out
}

// near compares with NaN in mind.
func (v vectors) near(t *testing.T, name string, got []float32, tolerance float64) {
	t.Helper()
	want := v.floats(t, name)
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", name, len(got), len(want))
	}
	worst := 0.0
	for i, x := range want {
		d := math.Abs(float64(got[i] - x))
		if !(d <= tolerance) {
			t.Fatalf("%s: value %d is %v, want %v", name, i, got[i], x)
		}
		worst = max(worst, d)
	}
	t.Logf("%s within %.1e", name, worst)
}

// vectorRun drives one Sequence over the vectors: what it holds, observes and hands
// over is its own; keys and values are looked up by position, exact.
type vectorRun struct {
	t       *testing.T
	s       *Sequence
	q, k, v []float32 // [tokens, heads, dim], [tokens, kvHeads, dim]
	maps    *lesskernels.FeatureMap

	out, lse  []float32 // [tokens, heads, dim], [tokens, heads]
	order     []float32 // of evictions: token in front of which, KV head, token
	evictStep []float32 // [kvHeads, tokens]
}

func newVectorRun(t *testing.T, v vectors, policy Policy, spec Spec, budget int) *vectorRun {
	t.Helper()
	r := &vectorRun{t: t, q: v.floats(t, "q"), k: v.floats(t, "k"), v: v.floats(t, "v"),
		out: make([]float32, vTokens*vHeads*vDim), lse: make([]float32, vTokens*vHeads),
		evictStep: slices.Repeat([]float32{vTokens}, vKVHeads*vTokens)}
	var err error
	r.maps, err = lesskernels.NewFeatureMap(
		lesskernels.FeatureShape{Heads: vHeads, KVHeads: vKVHeads, HeadDim: vDim, Hidden: vHidden, Rank: vRank},
		lesskernels.FeatureWeights{Wq1: v.floats(t, "Wq1"), Wq2: v.floats(t, "Wq2"), Wk1: v.floats(t, "Wk1"),
			Wk2: v.floats(t, "Wk2"), Wk3: v.floats(t, "Wk3"), S1: v.floats(t, "s1"), S2: v.floats(t, "s2")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(spec, Budget{Tokens: budget}, Shape{Layers: 1, KVHeads: vKVHeads, HeadDim: vDim, Context: 100,
		Group: vGroup, Ranks: []int{vRank, vRank}})
	if err != nil {
		t.Fatal(err)
	}
	if r.s, err = NewSequence(p, Handlers{Absorb: r.absorb}, &Scratch{}); err != nil {
		t.Fatal(err)
	}
	r.s.policy = policy
	t.Cleanup(func() { r.s.Free() })
	return r
}

func (r *vectorRun) absorb(state *State, _, head int, _, _, _ []uint16, positions []int32) {
	psi := make([]float32, vRank)
	for _, position := range positions {
		r.order = append(r.order, float32(r.s.Position()), float32(head), float32(position))
		r.evictStep[head*vTokens+int(position)] = float32(r.s.Position())
		if state == nil {
			continue
		}
		at := (int(position)*vKVHeads + head) * vDim
		r.maps.Psi(psi, head, r.k[at:at+vDim])
		for i, w := range psi {
			state.Z[i] += w
			cpu.Axpy(state.H[i*vDim:(i+1)*vDim], w, r.v[at:at+vDim])
		}
	}
}

// feed runs a block of n tokens.
func (r *vectorRun) feed(n int) {
	from := r.s.Position()
	zeros := make([]uint16, vKVHeads*n*vDim)
	r.s.MakeRoom(0, n)
	fits := r.s.Fits(0, n)
	own := make([]float32, vKVHeads*vGroup*n)
	for head := range vKVHeads {
		held := slices.Clone(r.s.Positions(0, head))
		if fits {
			r.s.Append(0, head, zeros[:n*vDim], zeros[:n*vDim])
		}
		first, reduce := r.s.Observed(n, 0)
		if reduce != Sum {
			r.t.Fatal("the vectors know sums alone")
		}
		all := len(held) + n
		columns := make([]float32, vGroup*all)
		for i := range n {
			seen := held
			for j := range i + 1 {
				seen = append(seen, int32(from+j))
			}
			for g := range vGroup {
				weights := r.attend(from+i, head, g, seen)
				for j, w := range weights {
					if i >= first {
						columns[g*all+j] += float32(w)
					}
				}
			}
		}
		if first == n {
			continue
		}
		inside := make([]float32, 0, len(columns))
		for g := range vGroup {
			row := columns[g*all : (g+1)*all]
			if fits {
				inside = append(inside, row...)
				continue
			}
			inside = append(inside, row[:len(held)]...)
			copy(own[(head*vGroup+g)*n:], row[len(held):])
		}
		r.s.Observe(0, head, 0, inside)
	}
	if !fits {
		r.s.Insert(0, zeros, zeros, own)
	}
	r.s.Advance(n)
}

// attend is one query's attention over positions and the state.
func (r *vectorRun) attend(token, kvHead, g int, positions []int32) []float64 {
	var keys, values []float32
	for _, position := range positions {
		at := (int(position)*vKVHeads + kvHead) * vDim
		keys, values = append(keys, r.k[at:at+vDim]...), append(values, r.v[at:at+vDim]...)
	}
	row := token*vHeads + kvHead*vGroup + g
	query := r.q[row*vDim : (row+1)*vDim]
	sparse, weights := lesskernels.Attend(query, keys, values, 0.25)
	r.lse[row] = sparse.LSE
	if state := r.s.State(0, kvHead); state != nil && state.Absorbed > 0 {
		phi := make([]float32, vRank)
		r.maps.Phi(phi, kvHead*vGroup+g, query)
		cpu.Recall(cpu.Portable, sparse.Out, []float32{sparse.LSE}, phi, state.H, state.Z, 0)
	}
	copy(r.out[row*vDim:], sparse.Out)
	return weights
}

func (r *vectorRun) kept() []float32 {
	var kept []float32
	for head := range vKVHeads {
		for _, position := range r.s.Positions(0, head) {
			kept = append(kept, float32(position))
		}
	}
	return kept
}

// Token by token, policies evict the vectors' tokens in the vectors' order, and
// with the state of those tokens attention gives the vectors' outputs.
func TestPoliciesAgainstVectors(t *testing.T) {
	v := readVectors(t)
	for _, test := range []struct {
		name, outputs string
		policy        Policy
		spec          Spec
		ordered       bool
	}{
		{"h2o", "h2o_out", h2o{}, Spec{Policy: H2O, State: Less}, true},
		{"h2o", "h2o_nolowrank_out", h2o{}, Spec{Policy: H2O}, true},
		{"tova", "tova_out", tova{}, Spec{Policy: TOVA, State: Less}, true},
		{"lambda", "lambda_out", sinks{first: 6}, Spec{Policy: Sinks, State: Less}, false},
	} {
		t.Run(fmt.Sprint(test.spec), func(t *testing.T) {
			r := newVectorRun(t, v, test.policy, test.spec, 12)
			for range vTokens {
				r.feed(1)
			}
			v.near(t, test.name+"_kept", r.kept(), 0)
			v.near(t, test.name+"_evict_step", r.evictStep, 0)
			if test.ordered {
				v.near(t, test.name+"_evict_order", r.order, 0)
			}
			v.near(t, test.outputs, r.out, 1e-5)
			if test.spec.State != "" {
				var h, z []float32
				for head := range vKVHeads {
					state := r.s.State(0, head)
					h, z = append(h, state.H...), append(z, state.Z...)
				}
				v.near(t, test.name+"_H", h, 1e-5)
				v.near(t, test.name+"_z", z, 1e-5)
			}
		})
	}
}

// A prompt fed as one block that exceeds the budget is attended densely and only
// then cut down: H2O after an exact prefill.
func TestOneShotH2O(t *testing.T) {
	v := readVectors(t)
	r := newVectorRun(t, v, h2o{}, Spec{Policy: H2O}, 12)
	r.feed(vTokens)
	v.near(t, "dense_out", r.out, 1e-5)
	v.near(t, "h2o_oneshot_kept", r.kept(), 0)
}

// SnapKV chooses from the attention of the last rows.
func TestSnapKVAgainstVectors(t *testing.T) {
	v := readVectors(t)
	score := v.floats(t, "snap_score")
	staged := Staged{Layers: 1, KVHeads: vKVHeads, Group: vGroup, Keep: []int{12, 12}, Question: vTokens - 8, End: true}
	for head := range vKVHeads {
		positions := make([]int32, vTokens)
		for i := range positions {
			positions[i] = int32(i)
		}
		staged.Positions = append(staged.Positions, positions)
		staged.Attention = append(staged.Attention, score[head*vTokens:(head+1)*vTokens])
	}
	for name, pool := range map[string]int{"snap_kept_max": 7, "snap_kept_nopool": 1} {
		var kept []float32
		for _, indices := range (snapKV{pool: pool, window: 8}).Choose(staged).Kept {
			for _, i := range indices {
				kept = append(kept, float32(i))
			}
		}
		v.near(t, name, kept, 0)
	}
}
