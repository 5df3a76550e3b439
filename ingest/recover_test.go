package ingest

import (
	"log/slog"
	"testing"

	"lessrag/cmd/api/postgres/pgtest"
)

// TestWaitingDocumentsShowIt: a document whose worker lost the database, and could not say that it gave up, is shown as
// queued; one that is worked on, and one whose job runs, are left alone.
func TestWaitingDocumentsShowIt(t *testing.T) {
	pool := pgtest.New(t)
	s := &Service{pool: pool, log: slog.New(slog.DiscardHandler)}
	var waits, locked, runs, older string
	for name, c := range map[string]struct {
		id      *string
		job     string
		version int
	}{"waits": {&waits, "retryable", 1}, "locked": {&locked, "available", 1}, "runs": {&runs, "running", 1}, "older": {&older, "retryable", 2}} {
		err := pool.QueryRow(t.Context(), `WITH c AS (INSERT INTO collections (name, embedder, dimensions) VALUES ($1, 'e', 384) RETURNING id),
				d AS (INSERT INTO documents (collection_id, name, hash, bytes, state, stage, done) SELECT id, $1, '', 1, 'embedding', 'embedding', 0.5 FROM c RETURNING id),
				j AS (INSERT INTO river_job (args, kind, max_attempts, queue, state, attempted_at, finalized_at)
					SELECT jsonb_build_object('document_id', id, 'version', $3::int), 'ingest_document', 10, 'ingest', $2::text::river_job_state, now(), NULL FROM d)
			SELECT id::text FROM d`, name, c.job, c.version).Scan(c.id)
		if err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock("+lockKey("$1::text")+")", locked); err != nil {
		t.Fatal(err)
	}
	if err := s.recover(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{waits: "queued  0", locked: "embedding embedding 0.5", runs: "embedding embedding 0.5", older: "embedding embedding 0.5"} {
		var got string
		if err := pool.QueryRow(t.Context(), "SELECT state || ' ' || stage || ' ' || done FROM documents WHERE id = $1", id).Scan(&got); err != nil || got != want {
			t.Errorf("%q, want %q (%v)", got, want, err)
		}
	}
}
