package retrieve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pgvector/pgvector-go"
)

// Embedder turns passages into unit vectors, and questions into vectors near
// those of passages that answer.
type Embedder interface {
	Embed(ctx context.Context, passages []string) ([][]float32, error)
	EmbedQuery(ctx context.Context, question string) ([]float32, error)
	Dim() int
	Name() string
}

// Searcher answers queries from one database. It is safe for concurrent use.
type Searcher struct {
	pool     *pgxpool.Pool
	embedder Embedder
	reranker Reranker // nil for none

	mu      sync.Mutex
	commons map[string]*common // of the collections that were searched
}

// mostScanned is the chunks of a collection up to which every vector is looked at, which takes some 1.7 µs each. The index
// is one for all collections, so a small one may be an island in it that a search does not reach all of.
const mostScanned = 20_000

// New returns a Searcher over a migrated database, which reads what it finds
// once more with r, if that is not nil.
func New(pool *pgxpool.Pool, e Embedder, r Reranker) *Searcher {
	return &Searcher{pool: pool, embedder: e, reranker: r, commons: map[string]*common{}}
}

// Results are the passages, best first, and what finding them took.
type Results struct {
	Passages   []Passage     `json:"passages"`
	EmbedTime  time.Duration `json:"-"`
	SearchTime time.Duration `json:"-"`
	RerankTime time.Duration `json:"-"`
	WidenTime  time.Duration `json:"-"`
}

// MarshalJSON writes the passages and the times in milliseconds, as the HTTP
// API does.
func (r Results) MarshalJSON() ([]byte, error) {
	var wire struct {
		Passages []Passage `json:"passages"`
		Timing   struct {
			EmbedMS  float64 `json:"embed_ms"`
			SearchMS float64 `json:"search_ms"`
			RerankMS float64 `json:"rerank_ms"` // 0 without a reranker
			WidenMS  float64 `json:"widen_ms"`
		} `json:"timing"`
	}
	wire.Passages = append([]Passage{}, r.Passages...)
	wire.Timing.EmbedMS = float64(r.EmbedTime) / float64(time.Millisecond)
	wire.Timing.SearchMS = float64(r.SearchTime) / float64(time.Millisecond)
	wire.Timing.RerankMS = float64(r.RerankTime) / float64(time.Millisecond)
	wire.Timing.WidenMS = float64(r.WidenTime) / float64(time.Millisecond)
	return json.Marshal(wire)
}

// collection is what a search needs to know about one.
type collection struct {
	id, embedder, language string
	dimensions, chunks     int
}

// Search finds the passages of q.Collection that fit q.Text best. Errors:
// *InvalidError, ErrNotFound (no such collection), *EmbedderMismatchError, or
// the embedder's or the database's own.
func (s *Searcher) Search(ctx context.Context, q Query) (Results, error) {
	q, err := q.normalize()
	if err != nil {
		return Results{}, err
	}
	filter, err := parseFilter(q.Filter)
	if err != nil {
		return Results{}, err
	}
	c, err := s.collection(ctx, q.Collection)
	if err != nil {
		return Results{}, err
	}
	q.Exact = q.Exact || c.chunks <= mostScanned
	var r Results
	var vector []float32
	if q.Mode != Lexical {
		if c.embedder != s.embedder.Name() || c.dimensions != s.embedder.Dim() {
			return Results{}, &EmbedderMismatchError{q.Collection, c.embedder, s.embedder.Name()}
		}
		start := time.Now()
		if vector, err = s.embed(ctx, q); err != nil {
			return Results{}, fmt.Errorf("embed the query: %w", err)
		}
		r.EmbedTime = time.Since(start)
	}
	start := time.Now()
	found, err := s.find(ctx, q, c, filter, vector)
	if err == nil && q.Mode == Hybrid {
		err = s.rescore(ctx, c, found, vector)
	}
	r.SearchTime = time.Since(start)
	if err != nil {
		return Results{}, fmt.Errorf("search: %w", err)
	}
	if s.reranker != nil && q.Mode == Hybrid {
		start = time.Now()
		if err := rerank(ctx, s.reranker, q.words(), found); err != nil {
			return Results{}, fmt.Errorf("rerank: %w", err)
		}
		r.RerankTime = time.Since(start)
	}
	start = time.Now()
	around, err := s.around(ctx, q, found)
	if err != nil {
		return Results{}, fmt.Errorf("widen: %w", err)
	}
	r.Passages = places(found, around, q.Limit, q.Widen)
	r.WidenTime = time.Since(start)
	return r, nil
}

// embed returns the vector of a query. That of a follow-up lies in the middle between its own words and
// the two questions together: of "And of the other?" either alone finds one half.
func (s *Searcher) embed(ctx context.Context, q Query) ([]float32, error) {
	vector, err := s.embedder.EmbedQuery(ctx, q.Text)
	if err != nil || q.After == "" {
		return vector, err
	}
	both, err := s.embedder.EmbedQuery(ctx, q.words())
	if err != nil {
		return nil, err
	}
	return middle(vector, both), nil
}

// middle is the unit vector between two; a's own where they are opposite.
func middle(a, b []float32) []float32 {
	m, square := make([]float32, len(a)), 0.0
	for i := range a {
		m[i] = a[i] + b[i]
		square += float64(m[i]) * float64(m[i])
	}
	if !(square > 0) {
		return a
	}
	for i := range m {
		m[i] *= float32(1 / math.Sqrt(square))
	}
	return m
}

func (s *Searcher) collection(ctx context.Context, name string) (c collection, err error) {
	err = s.pool.QueryRow(ctx, `SELECT id::text, embedder, dimensions, language::text, coalesce(t.chunks, 0)
		FROM collections LEFT JOIN lexicon_totals t ON t.collection_id = id WHERE name = $1`, name).
		Scan(&c.id, &c.embedder, &c.dimensions, &c.language, &c.chunks)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, fmt.Errorf("collection %q: %w", name, ErrNotFound)
	}
	if err != nil {
		return c, fmt.Errorf("read collection %q: %w", name, err)
	}
	return c, nil
}

// find runs the one statement of a search. Its passages are chunks as stored.
func (s *Searcher) find(ctx context.Context, q Query, c collection, filter []condition, vector []float32) ([]Passage, error) {
	sql, args := statement(q, c, filter, vector)
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanPassage)
}

func scanPassage(row pgx.CollectableRow) (p Passage, err error) {
	var vector *pgvector.HalfVector // of hybrid search
	err = row.Scan(&p.ID, &p.DocumentID, &p.Document.Name, &p.Document.Source, &p.Text, &p.Start, &p.End, &p.Page, &p.HeadingPath,
		&p.Tokens, &p.Score, &p.Similarity, &p.AllTerms, &p.Ranks.Vector, &p.Ranks.Lexical, &p.ordinal, &vector)
	p.last, p.FoundStart, p.FoundEnd = p.ordinal, p.Start, p.End
	if vector != nil {
		p.vector = vector.Slice()
	}
	return p, err
}
