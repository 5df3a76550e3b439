package retrieve

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"lessrag/cmd/api/postgres/pgtest"
)

// Vectors that differ mostly along two directions, about a mean: both are found, widest first, and what is left of
// a vector has nothing of them.
func TestCommon(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const dim = 24
	random := func() []float64 {
		v := make([]float64, dim)
		for i := range v {
			v[i] = r.NormFloat64()
		}
		return v
	}
	first, second, mean := random(), random(), random()
	normalize(first)
	remove(second, first)
	normalize(second)
	vectors := make([][]float32, 500)
	for k := range vectors {
		a, b, noise := 3*r.NormFloat64(), 1.5*r.NormFloat64(), random()
		vectors[k] = make([]float32, dim)
		for i := range vectors[k] {
			vectors[k][i] = float32(mean[i] + a*first[i] + b*second[i] + 0.1*noise[i])
		}
	}
	c := newCommon(vectors, 2)
	for i, want := range [][]float64{first, second} {
		if got := math.Abs(dot(c.directions[i], want)); !(got > 0.999) {
			t.Errorf("direction %d has a cosine of %g to the one put in", i, got)
		}
	}
	for _, v := range vectors[:20] {
		rest := c.without(v)
		if length := dot(rest, rest); !(math.Abs(length-1) <= 1e-12) || !(math.Abs(dot(rest, c.directions[0])) <= 1e-12) || !(math.Abs(dot(rest, c.directions[1])) <= 1e-12) {
			t.Errorf("what is left has length² %g and %g, %g of the directions", length, dot(rest, c.directions[0]), dot(rest, c.directions[1]))
		}
	}
	same := newCommon([][]float32{{0.5, 0.25}, {0.5, 0.25}}, 2)
	if rest := same.without([]float32{0.5, 0.25}); len(same.directions) != 0 || rest[0] != 0 || rest[1] != 0 {
		t.Errorf("of vectors that are all the same, %d directions, and %v is left", len(same.directions), rest)
	}
	if newCommon(nil, 2) != nil {
		t.Error("nothing has something in common")
	}
}

// In a collection that is large enough hybrid search weighs by cosines without what all vectors have in common; the
// lists alone do not.
func TestSearchCommon(t *testing.T) {
	pool, e := pgtest.New(t), bagEmbedder{"bag"}
	r := rand.New(rand.NewPCG(5, 6))
	documents := make([]document, leastCommon/25)
	for i := range documents {
		documents[i].name = fmt.Sprint(i)
		for range 25 {
			documents[i].parts = append(documents[i].parts, fmt.Sprintf("about the same matter word%c", 'a'+r.IntN(26)))
		}
	}
	store(t, pool, e, "large", documents...)
	s := New(pool, e, nil)
	large, err := s.collection(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	common := func(chunks int) *common {
		of := large
		of.chunks = chunks
		c, err := s.common(t.Context(), of)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if common(leastCommon-1) != nil {
		t.Errorf("a collection of %d chunks has a common part", leastCommon-1)
	}
	c := common(large.chunks)
	if c == nil || len(c.directions) != leftOut {
		t.Fatalf("the common part is %v", c)
	}
	if common(large.chunks*21/20) != c {
		t.Error("it is computed anew for a twentieth more")
	}
	if common(large.chunks*6/5) == c {
		t.Error("it is not computed anew for a fifth more")
	}
	const text = "the same matter wordb"
	question, err := e.EmbedQuery(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	asked := c.without(question)
	found, err := s.Search(t.Context(), Query{Text: text, Collection: "large", Widen: 1})
	if err != nil {
		t.Fatal(err)
	}
	changed := false
	for _, p := range found.Passages {
		cosine := dot(asked, c.without(p.vector))
		if words := p.Score - cosine; !(words >= -1e-3 && words <= wordsBeside+1e-3) {
			t.Errorf("%q has a score of %g, %g of them by its words", p.Text, p.Score, words)
		}
		changed = changed || math.Abs(cosine-p.Similarity) > 0.1
	}
	if !changed || !strings.Contains(found.Passages[0].Text, "wordb") || !slices.IsSortedFunc(found.Passages, func(a, b Passage) int { return int(1e9 * (b.Score - a.Score)) }) {
		t.Errorf("cosines changed: %v; found %+v", changed, found.Passages)
	}
}
