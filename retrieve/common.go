package retrieve

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
)

// common is what the vectors of a collection have in common: their mean, and the directions in which they differ
// most. These say of what kind a text is rather than what it is about, so cosines tell more without them (Mu and
// Viswanath, "All-but-the-top", arXiv 1702.01417).
type common struct {
	chunks     int // of the collection when it was computed
	mean       []float64
	directions [][]float64 // orthonormal
}

// How much a collection must have for its common part to be of its language rather than of its subject; how
// many of its vectors are looked at; how many directions are left out; by what share it may grow or shrink before
// all is computed anew; and what the words of a passage count beside such a cosine, which spreads wider than a plain one.
const (
	leastCommon    = 2_000
	sampledVectors = 2_000
	leftOut        = 3
	staleShare     = 0.1
	wordsBeside    = 0.2
)

// common returns the common part of a collection's vectors, nil where it is too small to have one. It is kept
// until the collection has changed by staleShare.
func (s *Searcher) common(ctx context.Context, c collection) (*common, error) {
	if c.chunks < leastCommon {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.commons[c.id]
	if known != nil && math.Abs(float64(c.chunks-known.chunks)) <= staleShare*float64(known.chunks) {
		return known, nil
	}
	rows, err := s.pool.Query(ctx, `SELECT embedding FROM chunks WHERE collection_id = $1::uuid AND id % $2 = 0 ORDER BY id LIMIT $3`,
		c.id, max(c.chunks/sampledVectors, 1), 2*sampledVectors)
	if err != nil {
		return nil, err
	}
	sample, err := pgx.CollectRows(rows, pgx.RowTo[pgvector.HalfVector])
	if err != nil {
		return nil, err
	}
	vectors := make([][]float32, len(sample))
	for i, v := range sample {
		vectors[i] = v.Slice()
	}
	if known = newCommon(vectors, leftOut); known != nil {
		known.chunks = c.chunks
	}
	s.commons[c.id] = known
	return known, nil
}

// rescore weighs passages by cosines to the question without what all have in common, where the collection is
// large enough, and sorts them by that.
func (s *Searcher) rescore(ctx context.Context, c collection, passages []Passage, question []float32) error {
	common, err := s.common(ctx, c)
	if err != nil || common == nil {
		return err
	}
	asked := common.without(question)
	for i := range passages {
		p := &passages[i]
		words := (p.Score - p.Similarity) / wordsWeight
		p.Score = dot(asked, common.without(p.vector)) + wordsBeside*words
	}
	slices.SortStableFunc(passages, func(a, b Passage) int { return cmp.Compare(b.Score, a.Score) })
	return nil
}

// newCommon computes it from vectors of one length; nil without any.
func newCommon(vectors [][]float32, directions int) *common {
	if len(vectors) == 0 {
		return nil
	}
	dim := len(vectors[0])
	c := &common{mean: make([]float64, dim)}
	for _, v := range vectors {
		for i, x := range v {
			c.mean[i] += float64(x) / float64(len(vectors))
		}
	}
	spread := make([][]float64, dim) // the covariance, times the number of vectors
	for i := range spread {
		spread[i] = make([]float64, dim)
	}
	for _, v := range vectors {
		for i := range spread {
			x := float64(v[i]) - c.mean[i]
			for j := range spread[i] {
				spread[i][j] += x * (float64(v[j]) - c.mean[j])
			}
		}
	}
	for range directions {
		d := principal(spread, c.directions)
		if d == nil {
			break
		}
		c.directions = append(c.directions, d)
	}
	return c
}

// principal is the direction in which a covariance is widest among those orthogonal to others, by power
// iteration; nil where nothing is left.
func principal(spread, others [][]float64) []float64 {
	d, next := make([]float64, len(spread)), make([]float64, len(spread))
	for i := range d {
		d[i] = 1 / float64(i+1) // any that is not orthogonal to the one looked for
	}
	for range 100 {
		for _, o := range others {
			remove(d, o)
		}
		if !normalize(d) {
			return nil
		}
		for i, row := range spread {
			next[i] = dot(row, d)
		}
		d, next = next, d
	}
	for _, o := range others {
		remove(d, o)
	}
	if !normalize(d) {
		return nil
	}
	return d
}

// without is a vector less what it has in common with the others, of length 1; 0 where nothing else is in it.
func (c *common) without(v []float32) []float64 {
	rest := make([]float64, len(v))
	for i, x := range v {
		rest[i] = float64(x) - c.mean[i]
	}
	for _, d := range c.directions {
		remove(rest, d)
	}
	if !normalize(rest) {
		clear(rest)
	}
	return rest
}

// remove takes from v its part along a unit vector.
func remove(v, unit []float64) {
	part := dot(v, unit)
	for i, x := range unit {
		v[i] -= part * x
	}
}

// normalize gives v the length 1, and tells whether it had one.
func normalize(v []float64) bool {
	length := math.Sqrt(dot(v, v))
	if !(length > 1e-9) {
		return false
	}
	for i := range v {
		v[i] /= length
	}
	return true
}
