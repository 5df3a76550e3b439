package cache

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// noise are queries, keys and values of chance for a storedRun.
func noise(tokens int, seed uint64) (q, k, v []float64) {
	random := rand.New(rand.NewPCG(seed, 1))
	numbers := func(n int) []float64 {
		x := make([]float64, n)
		for i := range x {
			x[i] = random.NormFloat64()
		}
		return x
	}
	return numbers(tokens * vHeads * vDim), numbers(tokens * vKVHeads * vDim), numbers(tokens * vKVHeads * vDim)
}

// all feeds all tokens of a run in blocks of these sizes, over and over.
func (r *storedRun) all(blocks ...int) *storedRun {
	tokens := len(r.q) / vHeads / vDim
	for i := 0; r.s.Position() < tokens; i++ {
		r.feed(min(blocks[i%len(blocks)], tokens-r.s.Position()))
	}
	return r
}

// A budget that holds the context makes every policy full attention, to the last bit.
func TestBudgetOfTheContextIsFullAttention(t *testing.T) {
	q, k, v := noise(90, 3)
	full := newStoredRun(t, Full, 0, 0, q, k, v).all(1).out
	for _, policy := range []string{BUZZ, CORM, Cascade, Elastic, ElasticValues} {
		for _, blocks := range [][]int{{1}, {30, 1, 1}} {
			r := newStoredRun(t, policy, 90, 2, q, k, v).all(blocks...)
			if !slices.Equal(r.out, full) || len(r.order) > 0 {
				t.Errorf("%s in blocks of %v: other outputs than full attention, %d tokens evicted", policy, blocks, len(r.order)/3)
			}
			less := newStoredRun(t, policy, 40, 2, q, k, v).all(blocks...)
			if slices.Equal(less.out, full) || less.most > 40+2+slices.Max(blocks) {
				t.Errorf("%s in blocks of %v: 40 of 90 tokens give what all give, or %d were held", policy, blocks, less.most)
			}
		}
	}
}

// With the paper's budget a sequence holds from 257 to 564 tokens between steps, and
// its sample settles at 93.
func TestBUZZOscillates(t *testing.T) {
	f := newFeeder(t, Spec{Policy: BUZZ}, Budget{Tokens: buzzBudget}, Shape{Layers: 1, KVHeads: 1, HeadDim: 2, Context: 8000, Group: 1})
	var after []int
	most := 0
	for range 6000 {
		before := f.s.Len(0, 0)
		f.s.MakeRoom(0, 1)
		if now := f.s.Len(0, 0); now < before {
			after = append(after, now)
		}
		most = max(most, f.s.Len(0, 0)) // the current token comes on top
		f.feed(1)
	}
	if len(after) < 10 || most != buzzBudget {
		t.Fatalf("cut down %d times, from %d tokens at most", len(after), most)
	}
	for i, n := range after[4:] {
		if sample := n - SinkTokens - buzzWindow; n != 257 || sample != 93 {
			t.Fatalf("cut %d: %d tokens stay, a sample of %d; want 257 and 93", i+4, n, sample)
		}
	}
}

// Segments of one token keep every token, whatever the threshold.
func TestBUZZSegmentsOfOne(t *testing.T) {
	var s Statistics
	var kept []int32
	for i := range 50 {
		s.Positions, s.Attention, kept = append(s.Positions, int32(i)), append(s.Attention, float32(i%7)), append(kept, int32(i))
	}
	if got := (buzz{stride: 1}).thin(slices.Clone(kept), s, 20, 6); !slices.Equal(got, kept) {
		t.Errorf("kept %v", got)
	}
	// Of the sample 4…19 every third stays, of 20…43 the best of each five.
	want := []int32{0, 1, 2, 3, 4, 7, 10, 13, 16, 19, 20, 27, 34, 39, 41, 44, 45, 46, 47, 48, 49}
	if got := (buzz{stride: 5}).thin(kept, s, 20, 6); !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
}

// In whatever blocks, every token is held or was handed over once, as it was stored.
func TestEveryTokenOnce(t *testing.T) {
	for _, policy := range []string{BUZZ, CORM, Cascade} {
		for _, state := range []string{"", Moment} {
			f := newFeeder(t, Spec{Policy: policy, State: state}, Budget{Tokens: 21}, Shape{Layers: 2, KVHeads: 2, HeadDim: 4, Context: 500, Group: 3, Interval: 5})
			for i := range 120 {
				f.feed([]int{1, 1, 1, 40, 7, 1}[i%6])
			}
			if f.most > f.s.plan.Bytes {
				t.Errorf("%s: held %d of %d bytes", policy, f.most, f.s.plan.Bytes)
			}
		}
	}
}
