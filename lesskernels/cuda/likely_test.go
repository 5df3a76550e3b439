package cuda

import (
	"cmp"
	"math"
	"slices"
	"testing"
)

// The likeliest tokens are those that sorting finds, of equals the first one first, over several blocks;
// and the sums are those of all tokens.
func TestLikely(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, vocab := range []int{3, 4096, 9001} {
			r.in(t).checkLikely(vocab)
		}
	})
}

func (r *rig) checkLikely(vocab int) {
	counts, heats := []int32{0, 1, 5, Likeliest}, []float32{1, 0.25, 3, 0.7}
	rows := len(counts)
	logits := r.normal(rows*vocab, 4)
	for i := range logits {
		logits[i] = float32(math.Round(float64(logits[i])*8) / 8) // so that some are equal
	}
	for i := vocab; i < vocab+min(4500, vocab-1); i++ {
		logits[i] = float32(math.Inf(-1)) // a block of nothing else
	}
	l := Likely{Rows: rows, Vocab: vocab, Logits: put(r, logits), Count: put(r, counts), Heat: put(r, heats),
		Scratch: put(r, make([]byte, LikelyScratch(rows, vocab))), Out: put(r, make([]int64, rows*(Likeliest+1)))}
	r.must(r.Likely(r.s, &l))
	out := get[int64](r, l.Out, rows*(Likeliest+1))
	for row, count := range counts {
		of := logits[row*vocab:][:vocab]
		order := make([]int32, vocab)
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(of[b], of[a]) })
		keys := out[row*(Likeliest+1):]
		for i, want := range order[:min(int(count), vocab)] {
			if token, logit := LikelyToken(keys[i]); token != want || logit != of[want] {
				r.t.Fatal("vocab", vocab, "row", row, "place", i, "is token", token, logit, "want", want, of[want])
			}
		}
		sum := 0.0
		for _, x := range of {
			sum += math.Exp(float64(x-of[order[0]]) / float64(heats[row]))
		}
		near(r.t, "sum", []float32{LikelySum(keys[Likeliest])}, []float64{sum}, 1e-5)
	}
}

// What is no number makes the sum none, whatever its sign.
func TestLikelyNaN(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, bits := range []uint32{0x7fc00000, 0xffc00000} {
			logits := r.normal(5000, 1)
			logits[4500] = math.Float32frombits(bits)
			l := Likely{Rows: 1, Vocab: 5000, Logits: put(r, logits), Count: put(r, []int32{1}), Heat: put(r, []float32{1}),
				Scratch: put(r, make([]byte, LikelyScratch(1, 5000))), Out: put(r, make([]int64, Likeliest+1))}
			r.must(r.Likely(r.s, &l))
			if sum := LikelySum(get[int64](r, l.Out, Likeliest+1)[Likeliest]); sum == sum {
				t.Errorf("the sum is %v", sum)
			}
		}
	})
}
