package cache

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestVoters(t *testing.T) {
	weights := []float32{1, 9, 3, 0, 8, 2, 8, 0.5, 0, 4}
	for _, test := range []struct {
		name    string
		weights []float32
		heads   int
		want    []int
	}{
		{"a fifteenth", slices.Repeat(weights, 3), 30, []int{1, 11}},
		{"of equal ones the earlier", slices.Repeat([]float32{7}, 30), 30, []int{0, 1}},
		{"at least one", []float32{1, 2}, 2, []int{1}},
		{"rounded", append(make([]float32, 21), 7, 8), 23, []int{21, 22}},
		{"none of weight 0", []float32{0, 0, 0, 0, 0, 0, 0, 0, 3, 0}, 10, []int{8}},
		{"no weights: all", nil, 3, []int{0, 1, 2}},
		{"all zero: all", make([]float32, 3), 3, []int{0, 1, 2}},
		{"not a number is no weight", []float32{float32(math.NaN()), 1, 0, 0, 0}, 5, []int{1}},
	} {
		if got := voters(test.weights, test.heads); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if len(voters(slices.Repeat(weights, 9), 90)) != 6 {
		t.Error("of 90 heads not 6 vote")
	}
}

func TestTally(t *testing.T) {
	votes := make([]float32, 5)
	tally(votes, []float32{ // [slots 3, group 2]
		0.5, 1,
		0.25, 0,
		0.125, 2,
	}, []int32{4, 1, 0})
	if want := []float32{2.125, 0.25, 0, 0, 1.5}; !slices.Equal(votes, want) {
		t.Errorf("%v, want %v", votes, want)
	}
	tally(votes, nil, nil)
}

func TestSentences(t *testing.T) {
	long := slices.Repeat([]string{" word"}, 200)
	for _, test := range []struct {
		name   string
		pieces []string
		want   []int32
	}{
		{"none", nil, nil},
		{"one", []string{"To", " be"}, []int32{0}},
		{"full stops before a space", []string{"A", ".", " B", "?", " C", "!", "\n", "D"}, []int32{0, 2, 4, 6, 7}},
		{"not inside a number or a name", []string{"v", "3", ".", "1", " is", " go", ".", "mod"}, []int32{0}},
		{"a line break anywhere in a token", []string{"A", "\n\n", "B", ",\n ", "C"}, []int32{0, 2, 4}},
		{"a stop that carries its own space", []string{"End. ", " Next", "x"}, []int32{0, 1}},
		{"a stop at the very end", []string{"End", "."}, []int32{0}},
		{"cut at 80 tokens", long, []int32{0, 80, 160}},
	} {
		ends := Sentences(len(test.pieces), func(i int) []byte { return []byte(test.pieces[i]) })
		got := starts(ends, len(ends))
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestVoteBudgets(t *testing.T) {
	for _, test := range []struct {
		name         string
		keep, tokens int
		weights      []float32
		want         []int
	}{
		{"half to all, the rest by weight", 100, 1000, []float32{0, 1, 3, 0}, []int{50, 100, 200, 50}},
		{"no fewer than the protected", 40, 1000, []float32{0, 1}, []int{36, 44}},
		{"below the protected: uniform", 20, 1000, []float32{0, 1}, []int{20, 20}},
		{"capped, the excess by weight", 100, 120, []float32{8, 1, 1, 0}, []int{120, 115, 115, 50}},
		{"all the weight capped: evenly", 100, 120, []float32{1, 0, 0}, []int{120, 90, 90}},
		{"everything fits", 100, 60, []float32{1, 0, 0}, []int{60, 60, 60}},
		{"without weights", 100, 1000, []float32{0, 0, 0}, []int{100, 100, 100}},
		{"nothing", 0, 50, []float32{1, 2}, []int{0, 0}},
	} {
		got := voteBudgets(test.keep, test.tokens, len(test.weights), test.weights)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if got := voteBudgets(7, 9, 2, nil); !slices.Equal(got, []int{7, 7}) {
		t.Errorf("nil weights: %v", got)
	}
}

// Against the definition: the level λ at which Σ min(tokens, floor + λ·w) is what
// there is to share, found by bisection. Rounding moves a head by less than two.
func TestVoteBudgetsRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		heads := 1 + random.IntN(90)
		weights := make([]float32, heads)
		for i := range weights {
			weights[i] = float32(math.Exp(3 * random.NormFloat64()))
		}
		tokens := 1 + random.IntN(3000)
		keep := 1 + random.IntN(900)
		got := voteBudgets(keep, tokens, heads, weights)

		keep = min(keep, tokens)
		floor := float64(min(keep, max(36, keep/2)))
		low, high := 0.0, 1e9
		level := func(lambda float64, head int) float64 {
			return min(float64(tokens), floor+lambda*float64(weights[head]))
		}
		for range 200 {
			middle, total := (low+high)/2, 0.0
			for head := range weights {
				total += level(middle, head)
			}
			if total < float64(heads*keep) {
				low = middle
			} else {
				high = middle
			}
		}
		sum := 0
		for head, budget := range got {
			sum += budget
			if !(math.Abs(float64(budget)-level(high, head)) < 2) {
				t.Fatalf("keep %d of %d: head %d of %d gets %d, want %.2f", keep, tokens, head, heads, budget, level(high, head))
			}
		}
		if sum != heads*keep {
			t.Fatalf("%d slots given of %d", sum, heads*keep)
		}
	}
}

func TestBallotRank(t *testing.T) {
	nan := float32(math.NaN())
	votes := []float32{9, 9, 9, 9 /* sinks */, 0, 1, 0, 5, nan, 0, 5, 0, 9, 9}
	ballot := Ballot{Votes: votes, Sentences: []int32{0, 5, 7, 9, 11}, Recent: 2}
	want := []int32{0, 1, 2, 3, 13, 12, 9, 10, 7, 8, 5, 6, 11, 4}
	got := ballot.Rank()
	if !slices.Equal(got.Order, want) {
		t.Errorf("order %v, want %v", got.Order, want)
	}
	for place, position := range got.Order {
		if int(got.Rank[position]) != place {
			t.Fatalf("position %d has rank %d and stands at %d", position, got.Rank[position], place)
		}
	}
	if got := (Ballot{Votes: votes[:3], Recent: 32}).Rank(); !slices.Equal(got.Order, []int32{0, 1, 2}) {
		t.Errorf("a prompt of three: %v", got.Order)
	}
	if got := (Ballot{}).Rank(); len(got.Order) != 0 {
		t.Errorf("no prompt: %v", got.Order)
	}
}

// Without sentences a vote carries fifteen tokens to either side, and no further.
func TestBallotPool(t *testing.T) {
	votes := make([]float32, 100)
	votes[40], votes[70] = 2, 1
	order := Ballot{Votes: votes, Recent: 4}.Rank().Order
	if !slices.Equal(order[:8], []int32{0, 1, 2, 3, 99, 98, 97, 96}) {
		t.Errorf("protected: %v", order[:8])
	}
	for i, position := range order[8 : 8+31] {
		if int(position) != 25+i {
			t.Fatalf("place %d has %d, want %d", i, position, 25+i)
		}
	}
	for i, position := range order[8+31 : 8+31+30] {
		if int(position) != 56+i {
			t.Fatalf("place %d has %d, want %d", 31+i, position, 56+i)
		}
	}
}

// Against the definition, with heads that have lost some tokens already: what is
// kept are the first n held tokens in the order of protection, sentence and place.
func TestRankingKeepRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		tokens := 1 + random.IntN(120)
		b := Ballot{Votes: make([]float32, tokens), Recent: random.IntN(40)}
		sentenceOf := make([]int, tokens)
		for i := range tokens {
			b.Votes[i] = float32(random.IntN(6))
			if i == 0 || random.IntN(7) == 0 {
				b.Sentences = append(b.Sentences, int32(i))
			}
			sentenceOf[i] = len(b.Sentences) - 1
		}
		protected := func(i int) bool { return i < SinkTokens || i >= tokens-b.Recent }
		best := make([]float32, len(b.Sentences))
		for i, v := range b.Votes {
			if !protected(i) {
				best[sentenceOf[i]] = max(best[sentenceOf[i]], v)
			}
		}
		place := func(i int) [3]float64 { // lexicographic, smaller is kept first
			switch {
			case i < SinkTokens:
				return [3]float64{-100, 0, float64(i)}
			case protected(i):
				return [3]float64{-99, 0, -float64(i)}
			}
			return [3]float64{-float64(best[sentenceOf[i]]), -float64(sentenceOf[i]), float64(i)}
		}
		ranking := b.Rank()
		larger := []int32(nil)
		for _, share := range []float64{1, 0.6, 0} {
			var positions []int32
			for i := range tokens {
				if share == 1 || random.Float64() < share {
					positions = append(positions, int32(i))
				}
			}
			n := random.IntN(tokens + 10)
			byPlace := slices.Clone(positions)
			slices.SortFunc(byPlace, func(x, y int32) int {
				a, b := place(int(x)), place(int(y))
				return slices.Compare(a[:], b[:])
			})
			want := slices.Sorted(slices.Values(byPlace[:min(n, len(byPlace))]))
			var got []int32
			for _, i := range ranking.Keep(nil, positions, n) {
				got = append(got, positions[i])
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%d of %v: %v, want %v", n, positions, got, want)
			}
		}
		// Nested: who keeps more keeps all that another keeps.
		all := make([]int32, tokens)
		for i := range all {
			all[i] = int32(i)
		}
		for n := tokens; n >= 0; n -= 1 + tokens/9 {
			kept := ranking.Keep(nil, all, n)
			for _, i := range kept {
				if _, ok := slices.BinarySearchFunc(larger, i, cmp.Compare[int32]); larger != nil && !ok {
					t.Fatalf("a head of %d keeps %d, which a larger one does not", n, i)
				}
			}
			larger = kept
		}
	}
}

// A prompt of 600 tokens in sentences of 10, staged for 30 KV heads of 2 query
// heads: the two voters attend to one sentence each, the others to noise.
func stagedForVote(end bool) Staged {
	const tokens, heads, group = 600, 30, 2
	random := rand.New(rand.NewPCG(9, 10))
	s := Staged{Layers: 15, KVHeads: 2, Group: group, Slots: 700, End: end, Weights: make([]float32, heads), Sentences: make([]bool, tokens)}
	for i := range tokens {
		s.Sentences[i] = i%10 == 9
	}
	for range heads {
		positions, attention := make([]int32, tokens), make([]float32, tokens*group)
		for i := range positions {
			positions[i] = int32(i)
			attention[i*group] = random.Float32()
		}
		s.Positions, s.Attention, s.Keep = append(s.Positions, positions), append(s.Attention, attention), append(s.Keep, 60)
	}
	for i, head := range []int{3, 8} {
		clear(s.Attention[head])
		s.Attention[head][(203+100*i)*group+1] = 1 - float32(i)/2 // inside sentence 20, and 30
		s.Weights[head] = 3 - float32(i)
	}
	return s
}

func TestVoteChoose(t *testing.T) {
	s := stagedForVote(true)
	c := vote{}.Choose(s)
	budgets := slices.Repeat([]int{36}, 30)
	budgets[3], budgets[8] = 468, 324 // 3 and 2 of 5 parts of what is left
	if !slices.Equal(c.Keep, budgets) {
		t.Errorf("budgets %v, want %v", c.Keep, budgets)
	}
	for head, kept := range c.Kept {
		want := []int32{0, 1, 2, 3}
		if budgets[head] > 36 {
			for i := range int32(10) {
				want = append(want, 200+i)
			}
			for i := range int32(10) {
				want = append(want, 300+i)
			}
		}
		if len(kept) != budgets[head] || !slices.Equal(kept[:4], want[:4]) {
			t.Errorf("head %d keeps %d tokens, %v…, want %d", head, len(kept), kept[:4], budgets[head])
		}
		for _, at := range append(want, 568, 599) {
			if !slices.Contains(kept, at) {
				t.Errorf("head %d does not keep token %d", head, at)
			}
		}
		// The scores are the order: what is protected first, then the better sentence.
		score := func(at int32) float32 { return c.Scores[head][slices.Index(kept, at)] }
		if !(score(0) > score(599)) || budgets[head] > 36 && !(score(568) > score(200) && score(200) > score(209) && score(209) > score(300)) {
			t.Errorf("head %d: scores do not fall with the order", head)
		}
	}
}

// Between chunks fewer recent tokens are protected, and a heavy head leaves room
// for the next one.
func TestVoteChooseBetweenChunks(t *testing.T) {
	s := stagedForVote(false)
	c := vote{}.Choose(s)
	if kept := c.Kept[0]; kept[len(kept)-16] != 584 || slices.Contains(kept, 583) {
		t.Errorf("not 16 recent tokens are kept: %v", kept)
	}
	s.Slots = 160
	if c = (vote{}).Choose(s); slices.Max(c.Keep) != 120 {
		t.Errorf("of 160 slots a head keeps %d", slices.Max(c.Keep))
	}
	s.Weights, s.Sentences = nil, nil
	if c = (vote{}).Choose(s); slices.Min(c.Keep) != 60 || slices.Max(c.Keep) != 60 {
		t.Errorf("without weights budgets are %v", c.Keep)
	}
}

func TestVoteScore(t *testing.T) {
	positions, attention := make([]int32, 200), make([]float32, 200)
	for i := range positions {
		positions[i] = int32(2 * i)
		if positions[i] < 300 {
			attention[i] = float32(1 + i%7)
		}
	}
	scores := make([]float32, 200)
	vote{}.Score(scores, Statistics{Positions: positions, Attention: attention, Keep: 160, Chosen: 300})
	kept := Keep(nil, scores, 160, make([]int32, 200))
	// The 40 newest stay, the 10 older ones without a score go first.
	if !slices.Equal(kept[120:], []int32{160, 161, 162, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 174, 175, 176, 177, 178, 179,
		180, 181, 182, 183, 184, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197, 198, 199}) || kept[119] >= 150 {
		t.Errorf("kept %v", kept)
	}
}
