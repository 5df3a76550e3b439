package cache

import (
	"math"
	"slices"
	"testing"

	"lessrag/lesskernels/cpu"
)

// storedRun drives one Sequence of one layer over queries, keys and values, and
// attends over what it stores: keys are turned, values merged, by the Sequence alone.
// Numbers are stored in two parts, so that float64 can judge them.
type storedRun struct {
	t       *testing.T
	s       *Sequence
	q, k, v []float64 // [tokens, heads, dim], [tokens, kvHeads, dim], not turned
	shape   Shape

	out   []float64 // [tokens, heads, dim]
	order []int     // of evictions: step, KV head, token
	most  int       // tokens held by a KV head, while a token was attended
}

func newStoredRun(t *testing.T, policy string, keep, interval int, q, k, v []float64) *storedRun {
	t.Helper()
	r := &storedRun{t: t, q: q, k: k, v: v, out: make([]float64, len(q)),
		shape: Shape{Layers: 1, KVHeads: vKVHeads, HeadDim: 2 * vDim, Parts: 2, Group: vGroup, Context: 4096, Interval: interval}}
	spec, err := ParseSpec(policy)
	if err != nil {
		t.Fatal(err)
	}
	budget := Budget{Tokens: keep}
	if !spec.Bounded() {
		budget = Budget{}
	}
	plan, err := NewPlan(spec, budget, r.shape)
	if err != nil {
		t.Fatal(err)
	}
	r.s, err = NewSequence(plan, Handlers{Turn: r.turn, Absorb: func(_ *State, _, head int, _, _, _ []uint16, positions []int32) {
		for _, position := range positions {
			r.order = append(r.order, r.s.Position(), head, int(position))
		}
	}}, &Scratch{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.s.Free() })
	return r
}

// turned is a row [dim] turned by positions, pairs (2i, 2i+1).
func turned(x []float64, by int) []float64 {
	y := make([]float64, len(x))
	for i := range len(x) / 2 {
		sin, cos := math.Sincos(float64(by) * math.Pow(10000, -float64(2*i)/float64(len(x))))
		y[2*i], y[2*i+1] = x[2*i]*cos-x[2*i+1]*sin, x[2*i]*sin+x[2*i+1]*cos
	}
	return y
}

func (r *storedRun) turn(dst, k []uint16, by int) {
	for at := 0; at < len(k); at += 2 * vDim {
		copy(dst[at:], stored(turned(widened(k[at:at+2*vDim]), by)))
	}
}

// stored is a row in two parts of bf16, and widened the row that they stand for.
func stored(x []float64) []uint16 {
	whole, rest := make([]float32, len(x)), make([]float32, len(x))
	for i, f := range x {
		whole[i] = float32(f)
	}
	out := make([]uint16, 2*len(x))
	cpu.BF16(out, whole)
	for i, f := range widened(append(slices.Clone(out[:len(x)]), make([]uint16, len(x))...)) {
		rest[i] = float32(x[i] - f)
	}
	cpu.BF16(out[len(x):], rest)
	return out
}

func widened(row []uint16) []float64 {
	x := make([]float64, len(row)/2)
	for i, bits := range row {
		x[i%len(x)] += float64(math.Float32frombits(uint32(bits) << 16))
	}
	return x
}

// feed runs a block of n tokens.
func (r *storedRun) feed(n int) {
	from := r.s.Position()
	r.s.MakeRoom(0, n)
	fits := r.s.Fits(0, n)
	row := func(x []float64, token, kvHead int) []float64 { return x[(token*vKVHeads+kvHead)*vDim:][:vDim] }
	var keys, values []uint16
	own := make([]float32, vKVHeads*vGroup*n)
	for head := range vKVHeads {
		var k, v []uint16
		for i := range n {
			k = append(k, stored(turned(row(r.k, from+i, head), from+i))...)
			v = append(v, stored(row(r.v, from+i, head))...)
		}
		keys, values = append(keys, k...), append(values, v...)
		held := r.s.Len(0, head)
		r.most = max(r.most, held+n)
		if fits {
			r.s.Append(0, head, k, v)
			k, v = nil, nil
		}
		heldK, heldV := r.s.Segment(0, head)
		columns := r.attend(head, n, held, append(slices.Clone(heldK), k...), append(slices.Clone(heldV), v...))
		if first, _ := r.s.Observed(n, 0); first == n {
			continue
		}
		inside := columns
		if !fits {
			inside = nil
			for g := range vGroup {
				inside = append(inside, columns[g*(held+n):][:held]...)
				copy(own[(head*vGroup+g)*n:], columns[g*(held+n)+held:][:n])
			}
		}
		r.s.Observe(0, head, 0, inside)
	}
	if !fits {
		r.s.Insert(0, keys, values, own)
	}
	r.s.Advance(n)
}

// attend is the attention of the last n of held+n tokens; it returns what the policy
// observes, [group, held+n].
func (r *storedRun) attend(head, n, held int, keys, values []uint16) []float32 {
	all := held + n
	_, reduce := r.s.Observed(n, 0)
	sums := make([]float64, vGroup*all)
	for i := range n {
		token := r.s.Position() + i
		for g := range vGroup {
			at := (token*vHeads + head*vGroup + g) * vDim
			q := turned(r.q[at:at+vDim], token)
			p, total := make([]float64, held+i+1), 0.0
			for j := range p {
				dot := 0.0
				for c, x := range widened(keys[j*2*vDim : (j+1)*2*vDim]) {
					dot += x * q[c]
				}
				p[j] = math.Exp(dot / math.Sqrt(vDim))
				total += p[j]
			}
			for j := range p {
				p[j] /= total
				for c, x := range widened(values[j*2*vDim : (j+1)*2*vDim]) {
					r.out[at+c] += p[j] * x
				}
				sum := &sums[g*all+j]
				switch {
				case reduce == Decayed:
					*sum += p[j] * math.Exp(Rise(token))
				case reduce == Last && p[j] >= 1/float64(token+1):
					*sum = float64(token + 1)
				case reduce == Sum:
					*sum += p[j]
				}
			}
		}
	}
	columns := make([]float32, len(sums))
	for i, x := range sums {
		columns[i] = float32(x)
	}
	return columns
}

// The newer policies against an independent program: which tokens go in front of which
// step, in which order, and what attention gives over keys that are numbered anew and
// tokens that are merged.
func TestPoliciesAgainstReference(t *testing.T) {
	v := readVectorsOf(t, "testdata/policies.json.gz")
	inputs := map[string][]float64{}
	for _, name := range []string{"q", "k", "v"} {
		for _, x := range v[name].Data {
			inputs[name] = append(inputs[name], x/64)
		}
	}
	tokens := len(inputs["q"]) / vHeads / vDim
	for _, test := range []struct {
		policy       string
		keep, prompt int
		paper        Policy
	}{
		{policy: BUZZ, keep: 40, prompt: 1},
		{policy: CORM, keep: 60, prompt: 1, paper: corm{window: 12}},
		{policy: Cascade, keep: 24, prompt: 1},
		{policy: Elastic, keep: 60, prompt: 100},
		{policy: ElasticValues, keep: 60, prompt: 100},
	} {
		t.Run(test.policy, func(t *testing.T) {
			r := newStoredRun(t, test.policy, test.keep, 1, inputs["q"], inputs["k"], inputs["v"])
			if test.paper != nil {
				r.s.policy = test.paper
			}
			r.feed(test.prompt)
			for r.s.Position() < tokens {
				r.feed(1)
			}
			var order []float32
			steps := slices.Repeat([]float32{float32(tokens)}, vKVHeads*tokens)
			for i := 0; i < len(r.order); i += 3 {
				step, head, token := r.order[i], r.order[i+1], r.order[i+2]
				order = append(order, float32(step), float32(head), float32(token))
				if steps[head*tokens+token] != float32(tokens) {
					t.Fatalf("token %d of KV head %d was handed over twice", token, head)
				}
				steps[head*tokens+token] = float32(step)
			}
			v.near(t, test.policy+"_evict_step", steps, 0)
			v.near(t, test.policy+"_order", order, 0)
			var out []float32
			for token := 0; token < tokens; token += 7 {
				for _, x := range r.out[token*vHeads*vDim : (token+1)*vHeads*vDim] {
					out = append(out, float32(x))
				}
			}
			v.near(t, test.policy+"_out", out, 1e-3)
		})
	}
}
