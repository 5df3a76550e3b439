package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pgvector/pgvector-go"

	"lessrag/cmd/api/postgres/pgtest"
)

func TestIndexDecision(t *testing.T) {
	for _, c := range []struct {
		state indexState
		want  indexAction
	}{
		{indexState{exists: true, valid: true}, keepIndex},
		{indexState{exists: true, valid: true, waiting: 19_999}, keepIndex},
		{indexState{exists: true, valid: true, waiting: 20_000}, dropIndex},
		{indexState{exists: true, valid: true, waiting: 20_000, stored: 20_001}, keepIndex},
		{indexState{exists: true}, dropIndex},
		{indexState{waiting: 2_000, stored: 100_000}, keepIndex},
		{indexState{waiting: 1_999, stored: 100_000}, buildIndex},
		{indexState{}, buildIndex},
	} {
		if got := c.state.decide(); got != c.want {
			t.Errorf("%+v: %d, want %d", c.state, got, c.want)
		}
	}
}

// TestIndexGoesAndComesBack: whatever state a crash left it in, the index is valid when nothing waits.
func TestIndexGoesAndComesBack(t *testing.T) {
	pool := pgtest.New(t)
	s := &Service{pool: pool, log: slog.New(slog.DiscardHandler)}
	indexed := func() (valid bool) {
		var thorough bool // however it came to be
		if err := pool.QueryRow(t.Context(), `SELECT coalesce(bool_or(indisvalid), false), coalesce(bool_and(coalesce(reloptions @> '{ef_construction=200}', false)), true)
			FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relname = 'chunks_embedding'`).Scan(&valid, &thorough); err != nil {
			t.Fatal(err)
		}
		if !thorough {
			t.Error("the index is built with few candidates")
		}
		return valid
	}
	run := func(sql string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	tend := func(want bool) {
		t.Helper()
		if err := s.tendIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := indexed(); got != want {
			t.Fatalf("the index is valid: %v", got)
		}
	}
	tend(true)
	run("INSERT INTO collections (name, embedder, dimensions) VALUES ('c', 'e', 384)")
	run("INSERT INTO documents (collection_id, name, hash, bytes) SELECT id, 'a', '', $1 FROM collections", bulkChunks*bytesPerChunk)
	tend(false)
	tend(false)
	run("UPDATE documents SET state = 'ready'")
	tend(true)
	run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chunks_embedding'::regclass") // a build that was cut off
	tend(false)
	tend(true)
}

const benchChunks = 50_000

// BenchmarkStore compares the two ways of storing 50,000 passages: row by row into the index, as a naive
// service would, and as this one does: hundreds with one statement, into the table without its index, and the
// index at the end. Run: go test ./ingest -run '^$' -bench Store -benchtime 1x -timeout 30m
func BenchmarkStore(b *testing.B) {
	vectors := make([]pgvector.HalfVector, benchChunks)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range vectors {
		v := make([]float32, 384)
		for j := range v {
			v[j] = float32(rng.NormFloat64()) / 20
		}
		vectors[i] = pgvector.NewHalfVector(v)
	}
	var rows, bulk time.Duration
	b.Run("rows", func(b *testing.B) { rows = timeStore(b, vectors, storeRows) })
	b.Run("bulk", func(b *testing.B) {
		bulk = timeStore(b, vectors, storeBulk)
		if rows > 0 {
			b.ReportMetric(rows.Seconds()/bulk.Seconds(), "times-rows")
		}
	})
}

func timeStore(b *testing.B, vectors []pgvector.HalfVector, store func(context.Context, *pgxpool.Pool, []pgvector.HalfVector) error) time.Duration {
	var took time.Duration
	for range b.N {
		pool := pgtest.New(b)
		_, err := pool.Exec(b.Context(), `WITH c AS (INSERT INTO collections (name, embedder, dimensions) VALUES ('c', 'e', 384) RETURNING id)
			INSERT INTO documents (collection_id, name, hash, bytes) SELECT id, 'a', '', 1 FROM c`)
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if err := store(b.Context(), pool, vectors); err != nil {
			b.Fatal(err)
		}
		took += time.Since(began)
		var n int
		var valid bool
		if err := pool.QueryRow(b.Context(), "SELECT count(*), (SELECT indisvalid FROM pg_index WHERE indexrelid = 'chunks_embedding'::regclass) FROM chunks").Scan(&n, &valid); err != nil || n != len(vectors) || !valid {
			b.Fatalf("%d passages, indexed %v, %v", n, valid, err)
		}
	}
	took /= time.Duration(b.N)
	b.ReportMetric(float64(len(vectors))/took.Seconds(), "passages/s")
	return took
}

func benchText(i int) string {
	return fmt.Sprintf("Passage %d speaks of turtles, of their number %d, and of what follows from it for those who count them.", i, i*i)
}

const insertRow = `INSERT INTO chunks (document_id, collection_id, ordinal, text, start_offset, end_offset, heading_path, tokens, embedding, lexemes)
	SELECT id, collection_id, $1, $2, 0, 1, '{}', 1, $3, to_tsvector('english', $2) FROM documents`

func storeRows(ctx context.Context, pool *pgxpool.Pool, vectors []pgvector.HalfVector) error {
	for i, v := range vectors {
		if _, err := pool.Exec(ctx, insertRow, i, benchText(i), v); err != nil {
			return err
		}
	}
	return nil
}

func storeBulk(ctx context.Context, pool *pgxpool.Pool, vectors []pgvector.HalfVector) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "DROP INDEX CONCURRENTLY chunks_embedding"); err != nil {
		return err
	}
	var document, collection string
	if err := conn.QueryRow(ctx, "SELECT id::text, collection_id::text FROM documents").Scan(&document, &collection); err != nil {
		return err
	}
	chunks, values := make([]Chunk, len(vectors)), make([][]float32, len(vectors))
	for i, v := range vectors {
		chunks[i], values[i] = Chunk{Text: benchText(i), End: 1, Tokens: 1, SectionEnd: 1}, v.Slice()
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return storeChunks(ctx, tx, document, collection, chunks, values) })
	if err != nil {
		return err
	}
	return createIndex(ctx, conn)
}
