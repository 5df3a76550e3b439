package cache

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"unsafe"
)

// combinations are all Specs that parse, of policies, states, precisions and pruned
// channels; refused counts the others.
func combinations() (specs []Spec, refused int) {
	for _, policy := range policies {
		for _, state := range []string{"", "+less", "+moment"} {
			for _, bits := range []string{"", "+kivi4", "+kivi2"} {
				for _, think := range []string{"", "+think"} {
					spec, err := ParseSpec(policy + state + bits + think)
					if err != nil {
						refused++
						continue
					}
					specs = append(specs, spec)
				}
			}
		}
	}
	return specs, refused
}

// combined feeds a sequence with keys and values of chance, a vector for each token, and
// remembers how often each was handed over.
type combined struct {
	t        *testing.T
	s        *Sequence
	absorbed []map[int32]int // [layers·kvHeads]
	merges   bool            // keys and values are not what they were
}

var combinedShape = Shape{Layers: 2, KVHeads: 2, HeadDim: 16, Context: 4000, Interval: 5, Group: 3, Ranks: []int{2, 0, 1, 3}}

func newCombined(t *testing.T, spec Spec, budget Budget) *combined {
	t.Helper()
	p, err := NewPlan(spec, budget, combinedShape)
	if err != nil {
		t.Fatal(err)
	}
	return combinedOf(t, p)
}

func combinedOf(t *testing.T, p Plan) *combined {
	t.Helper()
	f := &combined{t: t, merges: p.Spec.Policy == Elastic || p.Spec.Policy == ElasticValues}
	for range p.Slots {
		f.absorbed = append(f.absorbed, map[int32]int{})
	}
	s, err := NewSequence(p, Handlers{
		Turn: func(dst, k []uint16, _ int) { copy(dst, k) },
		Features: func(layer, head int, keys []float32, positions []int32, psi []float32) {
			rank := p.Shape.Ranks[layer*p.Shape.KVHeads+head]
			for i, position := range positions {
				near(t, fmt.Sprintf("%s: a key whose ψ is wanted, of %d", p.Spec, position), keys[i*p.Shape.HeadDim:(i+1)*p.Shape.HeadDim], f.vector(layer, head, position, 0), 0)
				for r := range rank {
					psi[i*rank+r] = float32(position%128 + int32(r))
				}
			}
		},
		Absorb: func(state *State, layer, head int, k, v, psi []uint16, positions []int32) {
			i := layer*p.Shape.KVHeads + head
			rank := p.Shape.Ranks[i]
			for j, position := range positions {
				f.absorbed[i][position]++
				from, to := j*p.Shape.HeadDim, (j+1)*p.Shape.HeadDim
				f.check(layer, head, position, wide(k[from:to]), wide(v[from:to]))
				for r := range rank {
					if want := float32(position%128 + int32(r)); psi != nil && wide(psi)[j*rank+r] != want {
						t.Fatalf("%s: ψ of token %d is %v, want %v", p.Spec, position, wide(psi)[j*rank+r], want)
					}
				}
			}
		},
	}, &Scratch{})
	if err != nil {
		t.Fatal(err)
	}
	f.s = s
	t.Cleanup(func() { f.s.Free() })
	return f
}

func wide(x []uint16) []float32 {
	out := make([]float32, len(x))
	for i, h := range x {
		out[i] = math.Float32frombits(uint32(h) << 16)
	}
	return out
}

// narrow cuts numbers that bf16 holds.
func narrow(x []float32) []uint16 {
	out := make([]uint16, len(x))
	for i, f := range x {
		out[i] = uint16(math.Float32bits(f) >> 16)
	}
	return out
}

// vector is the key (0) or value (1) of a token, of numbers that bf16 holds.
func (f *combined) vector(layer, head int, position int32, which uint64) []float32 {
	random := rand.New(rand.NewPCG(uint64(position), uint64(layer*8+head*2)+which))
	out := make([]float32, f.s.plan.Shape.HeadDim)
	for i := range out {
		out[i] = math.Float32frombits(math.Float32bits(float32(random.NormFloat64())) &^ 0xffff)
	}
	return out
}

// near tells whether got is want but for a share of its squares, which are about 1 each.
func near(t *testing.T, name string, got, want []float32, share float64) {
	t.Helper()
	var lost, all float64
	for i, x := range want {
		lost += float64((got[i] - x) * (got[i] - x))
		all += float64(x * x)
	}
	if !(lost <= share*(all+float64(len(want)))) {
		t.Fatalf("%s: %v, want %v", name, got, want)
	}
}

// check compares a token that is held or handed over with what was fed. What is packed
// has lost something, and never so much that it could be another token's.
func (f *combined) check(layer, head int, position int32, k, v []float32) {
	share, name := 0.0, fmt.Sprintf("%s: layer %d, head %d, token %d", f.s.plan.Spec, layer, head, position)
	switch f.s.plan.Spec.Bits {
	case 4:
		share = 0.04
	case 2:
		share = 0.4
	}
	key := f.vector(layer, head, position, 0)
	if f.s.plan.Spec.Think > 0 {
		for c, x := range k {
			if x == 0 { // pruned, or quantised to it
				key[c] = 0
			}
		}
	}
	if !f.merges {
		near(f.t, name+": key", k, key, share)
		near(f.t, name+": value", v, f.vector(layer, head, position, 1), share)
	}
}

func (f *combined) feed(n int) { feedVectors(f.t, f.s, n, f.vector) }

// feedVectors feeds n tokens, of attention by chance.
func feedVectors(t *testing.T, s *Sequence, n int, vector func(layer, head int, position int32, which uint64) []float32) {
	shape := s.plan.Shape
	for layer := range shape.Layers {
		var k, v []uint16
		for head := range shape.KVHeads {
			squares := make([]float32, shape.HeadDim)
			for c := range squares {
				squares[c] = float32(1 + (c*7+head)%5)
			}
			if s.Queries(layer, head) {
				s.Ask(layer, head, n, squares)
			}
			for i := range n {
				position := int32(s.Position() + i)
				k = append(k, narrow(vector(layer, head, position, 0))...)
				v = append(v, narrow(vector(layer, head, position, 1))...)
			}
		}
		s.MakeRoom(layer, n)
		first, _ := s.Observed(n, n)
		random := rand.New(rand.NewPCG(uint64(s.Position()), uint64(layer)))
		columns := func(tokens int) []float32 {
			x := make([]float32, shape.Group*tokens)
			for i := range x {
				x[i] = random.Float32()
			}
			return x
		}
		fits := s.Fits(layer, n)
		var own []float32
		for head := range shape.KVHeads {
			if fits {
				at := head * n * shape.HeadDim
				s.Append(layer, head, k[at:at+n*shape.HeadDim], v[at:at+n*shape.HeadDim])
			}
			if first == n {
				continue
			}
			packed := len(s.Packed(layer, head).Groups) / max(1, s.packing.Words()) * GroupTokens
			if packed > 0 {
				s.ObservePacked(layer, head, 0, columns(packed))
			}
			loose, _ := s.Segment(layer, head)
			tokens := len(loose) / shape.HeadDim
			s.Observe(layer, head, 0, columns(tokens/2))
			s.Observe(layer, head, tokens/2, columns(tokens-tokens/2))
			if !fits {
				own = append(own, columns(n)...)
			}
		}
		if !fits {
			s.Insert(layer, k, v, own)
		}
		if held := s.Held(); held.Bytes > s.plan.Bytes {
			t.Fatalf("%s: holds %d bytes of %d", s.plan.Spec, held.Bytes, s.plan.Bytes)
		}
	}
	s.Advance(n)
}

// verify checks that every token is held or was handed over, once, and that what is
// held is what was fed.
func (f *combined) verify() {
	shape := f.s.plan.Shape
	for layer := range shape.Layers {
		for head := range shape.KVHeads {
			i := layer*shape.KVHeads + head
			h := &f.s.heads[i]
			positions := f.s.Positions(layer, head)
			k, v := f.s.Segment(layer, head)
			loose, front := len(k)/shape.HeadDim, h.front()
			packed := f.s.Packed(layer, head)
			keys, values := make([]float32, GroupTokens*shape.HeadDim), make([]float32, GroupTokens*shape.HeadDim)
			for j, position := range positions {
				if j > 0 && position <= positions[j-1] {
					f.t.Fatalf("%s: positions do not rise: %v", f.s.plan.Spec, positions)
				}
				if f.absorbed[i][position] != 0 {
					f.t.Fatalf("%s: token %d is held and was handed over", f.s.plan.Spec, position)
				}
				at := j
				switch group := j - front; {
				case h.settled == 0 || j < front:
				case group < h.settled*GroupTokens:
					if group%GroupTokens == 0 {
						packed.Unpack(keys, values, group/GroupTokens)
					}
					from, to := group%GroupTokens*shape.HeadDim, (group%GroupTokens+1)*shape.HeadDim
					f.check(layer, head, position, keys[from:to], values[from:to])
					continue
				default:
					at = j - h.settled*GroupTokens
				}
				if at >= loose {
					f.t.Fatalf("%s: token %d is nowhere", f.s.plan.Spec, position)
				}
				if !f.merges {
					near(f.t, fmt.Sprintf("%s: recent token %d", f.s.plan.Spec, position), wide(k[at*shape.HeadDim:(at+1)*shape.HeadDim]), f.vector(layer, head, position, 0), 0)
					near(f.t, fmt.Sprintf("%s: recent token %d", f.s.plan.Spec, position), wide(v[at*shape.HeadDim:(at+1)*shape.HeadDim]), f.vector(layer, head, position, 1), 0)
				}
			}
			for position, times := range f.absorbed[i] {
				if times != 1 {
					f.t.Fatalf("%s: token %d was handed over %d times", f.s.plan.Spec, position, times)
				}
			}
			if len(positions)+len(f.absorbed[i]) != f.s.Position() {
				f.t.Fatalf("%s: %d held and %d handed over of %d tokens", f.s.plan.Spec, len(positions), len(f.absorbed[i]), f.s.Position())
			}
		}
	}
}

// allocated is the memory of a sequence, by its parts.
func (f *combined) allocated() int64 {
	var used int64
	for i, h := range f.s.heads {
		used += int64(2*(cap(h.k)+cap(h.v)+cap(h.sinks)+cap(h.groups)+cap(h.psi)+cap(h.channels)) + 4*(cap(h.positions)+cap(h.attention)+cap(h.queries)))
		for _, part := range f.s.states[i].parts() {
			used += int64(4 * cap(part))
		}
		if uintptr(unsafe.Pointer(unsafe.SliceData(h.positions)))%4 != 0 {
			f.t.Errorf("%s: positions are not aligned", f.s.plan.Spec)
		}
	}
	return used
}

// Every combination that is not refused holds to the byte what its Plan says, hands
// every token over once, and is itself again after Save and Restore, and as a Copy.
func TestEveryCombination(t *testing.T) {
	specs, refused := combinations()
	if want := len(policies) * 18; len(specs)+refused != want || refused != 12+2*12+2*15 {
		t.Errorf("%d combinations and %d refused, of %d", len(specs), refused, want)
	}
	for _, spec := range specs {
		budget := Budget{Tokens: 300}
		if !spec.Bounded() {
			budget.Tokens = 700
		}
		f := newCombined(t, spec, budget)
		p := f.s.plan
		if used := f.allocated(); used != p.Bytes || int64(len(f.s.memory.bytes)) != p.Bytes || int64(f.s.memory.used) != p.Bytes {
			t.Errorf("%s: parts of %d bytes in %d taken, planned %d", spec, used, len(f.s.memory.bytes), p.Bytes)
		}
		random := rand.New(rand.NewPCG(5, 6))
		for f.s.Position() < 500 {
			f.feed(1 + random.IntN(40))
		}
		f.feed(128)
		for f.s.Position() < 690 {
			f.feed(1)
		}
		f.verify()
		var data bytes.Buffer
		if err := f.s.Save(&data, "model"); err != nil {
			t.Fatal(err)
		}
		restored, err := Restore(bytes.NewReader(data.Bytes()), "model", func(string) Shape { return combinedShape }, p.Bytes, f.s.handlers, &Scratch{})
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		copied, err := f.s.Copy(f.s.Position())
		if err != nil {
			t.Fatal(err)
		}
		if held := f.s.Held().Bytes; copied.Plan().Bytes != held || copied.Held().Bytes != held {
			t.Errorf("%s: a copy of %d bytes in %d, of a sequence that holds %d", spec, copied.Held().Bytes, copied.Plan().Bytes, held)
		}
		adopted := combinedOf(t, p)
		adopted.s.Adopt(copied, f.s.Position())
		for name, other := range map[string]*Sequence{"restored": restored, "adopted": adopted.s} {
			var again bytes.Buffer
			if err := other.Save(&again, "model"); err != nil || !bytes.Equal(again.Bytes(), data.Bytes()) {
				t.Errorf("%s: %s, it is another: %v", spec, name, err)
			}
		}
		if err := restored.Free(); err != nil {
			t.Error(err)
		}
		if err := copied.Free(); err != nil {
			t.Error(err)
		}
		f.s.Free()
		adopted.s.Free()
	}
}

// A budget in bytes holds everything, and one group more would not fit.
func TestBudgetInBytesOfEveryCombination(t *testing.T) {
	specs, _ := combinations()
	for _, spec := range specs {
		for _, bytes := range []int64{100_000, 333_333, 2_000_000} {
			p, err := NewPlan(spec, Budget{Bytes: bytes}, combinedShape)
			if err != nil {
				t.Fatalf("%s in %d bytes: %v", spec, bytes, err)
			}
			unit := p.tokenBytes()
			if p.Groups[0] > 0 {
				unit = 0
				for i := range p.Slots {
					unit += p.groupBytes(i) + GroupTokens*p.noteBytes()
				}
			}
			if p.Bytes > bytes || p.Bytes+unit <= bytes && p.Slots[0] < combinedShape.Context {
				t.Errorf("%s: %d bytes planned of %d, and %d make one more", spec, p.Bytes, bytes, unit)
			}
		}
	}
}

// Until something is packed, a cache is its 16-bit twin, slot for slot.
func TestRecentTokensAreWhole(t *testing.T) {
	for _, text := range []string{"full+kivi2+think", "h2o+kivi4", "sinks+think"} {
		spec, err := ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		f := newCombined(t, spec, Budget{Tokens: 500})
		for f.s.Position() < looseTokens {
			f.feed(1)
		}
		f.verify()
		if packed := f.s.Packed(1, 1); len(packed.Groups) > 0 || f.s.plan.Plain() != looseTokens && spec.Policy != H2O {
			t.Errorf("%s: %d tokens, some of them packed; plain up to %d", text, f.s.Position(), f.s.plan.Plain())
		}
		f.feed(1)
		if packed := f.s.Packed(1, 1); len(packed.Groups) != packed.Words() {
			t.Errorf("%s: %d tokens, and %d words packed", text, f.s.Position(), len(packed.Groups))
		}
	}
}

// Tokens that come one by one are packed to the same codes as a prompt in blocks, where
// channels are chosen from the same queries.
func TestStreamingEqualsBulk(t *testing.T) {
	for _, text := range []string{"full+kivi4", "full+kivi2", "full+kivi2+think"} {
		spec, err := ParseSpec(text)
		if err != nil {
			t.Fatal(err)
		}
		one, bulk := newCombined(t, spec, Budget{Tokens: 500}), newCombined(t, spec, Budget{Tokens: 500})
		for one.s.Position() < 400 {
			one.feed(1)
		}
		if spec.Think > 0 { // chosen from the same keys
			bulk.feed(looseTokens)
		}
		for bulk.s.Position() < 400 {
			bulk.feed(min(100, 400-bulk.s.Position()))
		}
		for i := range one.s.heads {
			a, b := &one.s.heads[i], &bulk.s.heads[i]
			n := min(a.settled, b.settled) * one.s.packing.Words()
			if a.settled < 8 || b.settled < 8 || !slices.Equal(a.groups[:n], b.groups[:n]) || !slices.Equal(a.channels, b.channels) {
				t.Errorf("%s: KV head %d: %d and %d groups differ, or channels %v and %v", text, i, a.settled, b.settled, a.channels, b.channels)
			}
		}
	}
}

// Ratio 0 prunes nothing; the ranking of channels is that of the Frobenius norms of what
// each adds to the scores.
func TestThinkRanksByFrobenius(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	const d, queries, tokens = 24, 32, 77
	q, k := make([]float32, queries*d), make([]float32, tokens*d)
	for i := range q {
		q[i] = float32(random.NormFloat64() * math.Exp(float64(i%d%7)/3))
	}
	for i := range k {
		k[i] = float32(random.NormFloat64() * math.Exp(float64(i%d%5)/2))
	}
	squares := make([]float32, d)
	for i, x := range q {
		squares[i%d] += x * x / queries
	}
	norms := make([]float64, d) // ‖q_c k_cᵀ‖_F², entry by entry
	for c := range norms {
		for i := range queries {
			for j := range tokens {
				x := float64(q[i*d+c]) * float64(k[j*d+c])
				norms[c] += x * x
			}
		}
	}
	order := make([]int, d)
	for c := range order {
		order[c] = c
	}
	slices.SortFunc(order, func(x, y int) int {
		if norms[x] > norms[y] {
			return -1
		}
		return 1
	})
	for ratio := range 91 {
		keep := Spec{Think: ratio}.keyChannels(d)
		if keep != d-int(float64(d)*float64(ratio)/100+1e-9) {
			t.Errorf("ratio %d%% keeps %d of %d channels", ratio, keep, d)
		}
		got, want := make([]uint16, keep), make([]uint16, keep)
		thinkChannels(got, thinkScores(squares, k))
		for i, c := range order[:keep] {
			want[i] = uint16(c)
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("ratio %d%%: kept %v, want %v", ratio, got, want)
		}
	}
	nan := slices.Clone(squares)
	nan[3] = float32(math.NaN())
	kept := make([]uint16, d-1)
	if thinkChannels(kept, thinkScores(nan, k)); slices.Contains(kept, 3) {
		t.Error("a channel that is not a number is kept before others")
	}
}

// The last 32 queries count, whatever the blocks before them; a shorter block shares
// with what was before.
func TestAsk(t *testing.T) {
	s := newCombined(t, Spec{Think: 40}, Budget{Tokens: 300}).s
	squares := func(x float32) []float32 { return slices.Repeat([]float32{x}, combinedShape.HeadDim) }
	for _, step := range []struct {
		n          int
		squares, x float32
	}{{8, 4, 4}, {8, 2, 3}, {128, 7, 7}, {16, 1, 4}, {1, 36, 5}} {
		s.Ask(0, 1, step.n, squares(step.squares))
		s.Advance(step.n)
		if got := s.heads[1].queries[5]; !(math.Abs(float64(got-step.x)) < 1e-5) {
			t.Errorf("after a block of %d with %v: %v, want %v", step.n, step.squares, got, step.x)
		}
	}
}

// Units: groups go by their mean, one that does not fit gives way, one that is protected
// is kept.
func TestKeepUnits(t *testing.T) {
	inf := float32(math.Inf(1))
	scores := make([]float32, 2+2*GroupTokens+3)
	for i := range scores {
		switch {
		case i < 2:
			scores[i] = 1
		case i < 2+GroupTokens:
			scores[i] = 3
		case i < 2+2*GroupTokens:
			scores[i] = 2
		default:
			scores[i] = float32(i)
		}
	}
	count := func(keep int) (n int, kept []int32) {
		kept = keepUnits(nil, appendUnits(nil, scores, 2, 2), keep)
		return len(kept), kept
	}
	for keep, want := range map[int]int{0: 0, 2: 2, 5: 5, 34: 5, 35: 35, 37: 37, 66: 37, 67: 67, 69: 69} {
		if n, kept := count(keep); n != want {
			t.Errorf("of %d kept %d: %v", keep, n, kept)
		}
	}
	scores[2+GroupTokens+9] = inf
	if _, kept := count(GroupTokens); kept[0] != 2+GroupTokens {
		t.Errorf("a protected token's group is not kept: %v", kept)
	}
}

// ThinK's channels are those that an independent program keeps.
func TestThinkVectors(t *testing.T) {
	f, err := os.Open("../../lesskernels/cpu/testdata/packed.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Dim, Percent int
		Q, K         []float32
		Channels     []uint16
	}
	if err := json.NewDecoder(z).Decode(&cases); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, c := range cases {
		squares := make([]float32, c.Dim)
		for i, x := range c.Q {
			squares[i%c.Dim] += x * x / float32(len(c.Q)/c.Dim)
		}
		got := make([]uint16, Spec{Think: c.Percent}.keyChannels(c.Dim))
		if thinkChannels(got, thinkScores(squares, c.K)); !slices.Equal(got, c.Channels) {
			t.Errorf("%d%% of %d channels: kept %v, want %v", c.Percent, c.Dim, got, c.Channels)
		}
	}
}
