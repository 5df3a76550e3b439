package cache

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The tokens of a prompt that stay are the most important ones by a sort of all, and
// the first and the newest.
func TestElasticKeepsTheMostImportant(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	for range 200 {
		n := 10 + random.IntN(60)
		s := Statistics{Coming: n, Keep: 2 + random.IntN(n)}
		for i := range n {
			s.Positions, s.Attention = append(s.Positions, int32(i)), append(s.Attention, random.Float32())
		}
		newest := min(24, s.Keep/2)
		inner := rangeOf(1, int32(n-newest))
		slices.SortFunc(inner, func(a, b int32) int { return cmp.Compare(s.Attention[b], s.Attention[a]) })
		want := append(append([]int32{0}, rangeOf(int32(n-newest), int32(n))...), inner[:min(len(inner), s.Keep-1-newest)]...)
		slices.Sort(want)
		if got := (elastic{}).Decide(nil, s); !slices.Equal(got, want) {
			t.Fatalf("%d of %d: %v, want %v", s.Keep, n, got, want)
		}
	}
}

// Nothing is merged where nothing is removed, and merging equals of an anchor leaves
// it as it is.
func TestElasticMergesDuplicates(t *testing.T) {
	const tokens = 60
	q, k, v := noise(tokens, 13)
	for i := range k { // one key and value throughout, and no turns that tell them apart
		k[i], v[i] = 0, v[i%(vKVHeads*vDim)]
	}
	for _, policy := range []string{Elastic, ElasticValues} {
		r := newStoredRun(t, policy, 7, 1, q, k, v)
		r.feed(tokens)
		for head := range vKVHeads {
			keys, values := r.s.Segment(0, head)
			want := stored(v[head*vDim : (head+1)*vDim])
			for i := range 7 {
				if !slices.Equal(values[i*2*vDim:(i+1)*2*vDim], want) || slices.ContainsFunc(keys, func(x uint16) bool { return x&0x7fff != 0 }) {
					t.Fatalf("%s: token %d of %d equal ones has changed", policy, i, tokens)
				}
			}
		}
		if held := r.s.Held(); held.Kept != 7 || held.Evicted != tokens-7 {
			t.Errorf("%s: %+v", policy, held)
		}
	}
}

// An answer's tokens go at the fixed point, however many at a time; the prompt's stay.
func TestElasticFixedPoint(t *testing.T) {
	const prompt, keep = 80, 60
	q, k, v := noise(200, 14)
	var kept [][]int32
	for _, interval := range []int{1, 8} {
		r := newStoredRun(t, Elastic, keep, interval, q, k, v)
		r.feed(prompt)
		anchors := slices.Clone(r.s.Positions(0, 0))
		for r.s.Position() < 200 {
			r.feed(1)
		}
		r.s.evict(0, nil, nil, nil, 0, 1) // down to the budget
		positions := r.s.Positions(0, 0)
		newest := elasticDistance - 1
		if !slices.Equal(positions[:keep-newest], anchors[:keep-newest]) || !slices.Equal(positions[keep-newest:], rangeOf(200-int32(newest), 200)) {
			t.Errorf("interval %d: %v stay of %v", interval, positions, anchors)
		}
		kept = append(kept, slices.Clone(positions))
	}
	if !slices.Equal(kept[0], kept[1]) {
		t.Error("what stays depends on the interval")
	}
}

// The sink takes nothing up: what is nearest to it is merged into the next that stays.
func TestElasticSinkTakesNothing(t *testing.T) {
	const tokens = 20
	q, k, v := noise(tokens, 15)
	r := newStoredRun(t, ElasticValues, 60, 1, q, k, v)
	r.feed(tokens)
	h := &r.s.heads[0]
	sink := slices.Clone(h.v[:2*vDim])
	r.s.kept = []int32{0, 10}
	r.s.merge(0, h, head{}, Statistics{Positions: h.positions[:tokens], Coming: tokens})
	if !slices.Equal(h.v[:2*vDim], sink) {
		t.Error("the value of the sink has changed")
	}
	got := widened(h.v[10*2*vDim : 11*2*vDim])
	for c := range vDim {
		mean := 0.0
		for i := 1; i < tokens; i++ {
			mean += v[i*vKVHeads*vDim+c] / (tokens - 1)
		}
		if !(math.Abs(got[c]-mean) <= 1e-4) {
			t.Errorf("value %d of the next token is %v, the mean of all but the sink's is %v", c, got[c], mean)
		}
	}
}
