package migrations_test

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"lessrag/cmd/api/postgres"
	"lessrag/cmd/api/postgres/pgtest"
	"lessrag/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// empty gives a database of the test's own with nothing but the extension in it.
func empty(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE EXTENSION vector")
	if err != nil {
		t.Fatal(err)
	}
	address := pool.Config().ConnString()
	pool.Close() // its connections remember the types of the old schema
	fresh, err := postgres.Pool(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fresh.Close)
	return fresh
}

func tables(t *testing.T, pool *pgxpool.Pool) map[string]bool {
	t.Helper()
	rows, err := pool.Query(t.Context(), "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		found[name] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestUpOnEmptyAndAgain(t *testing.T) {
	pool := empty(t)
	for round := range 2 {
		if err := migrations.Up(t.Context(), pool); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		found := tables(t, pool)
		for _, name := range []string{"collections", "documents", "document_bodies", "chunks", "ingestions", "ingestion_documents", "conversations", "runs", "river_job"} {
			if !found[name] {
				t.Errorf("round %d: no table %s", round, name)
			}
		}
		var version int
		if err := pool.QueryRow(t.Context(), "SELECT max(version_id) FROM goose_db_version WHERE is_applied").Scan(&version); err != nil {
			t.Fatal(err)
		}
		if version < 2 {
			t.Errorf("round %d: version %d is recorded", round, version)
		}
	}
}

func TestUpFromSeveralProcessesAtOnce(t *testing.T) {
	pool := empty(t)
	var wait sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wait.Go(func() { errs[i] = migrations.Up(context.Background(), pool) })
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if !tables(t, pool)["chunks"] {
		t.Error("no table chunks")
	}
}

func TestDownAndUp(t *testing.T) {
	pool := pgtest.New(t)
	if err := migrations.Down(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	found := tables(t, pool)
	for _, name := range []string{"collections", "documents", "chunks", "runs"} {
		if found[name] {
			t.Errorf("table %s outlived its migration", name)
		}
	}
	if err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if !tables(t, pool)["chunks"] {
		t.Error("no table chunks after going down and up")
	}
}

// TestLexiconOfWhatIsThere holds the counts that a migration makes of passages that came before it.
func TestLexiconOfWhatIsThere(t *testing.T) {
	pool := pgtest.New(t)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO collections (name, embedder, dimensions) VALUES ('c', 'e', 384);
		INSERT INTO documents (collection_id, name, hash, bytes) SELECT id, 'd', '', 1 FROM collections;
		INSERT INTO chunks (document_id, collection_id, ordinal, text, start_offset, end_offset, tokens, embedding, lexemes)
		SELECT d.id, d.collection_id, n, '', 0, 0, n, array_fill(1, ARRAY[384])::halfvec, to_tsvector('simple', CASE n WHEN 3 THEN 'one two two' ELSE 'one' END)
		FROM documents d, generate_series(1, 3) n`)
	if err != nil {
		t.Fatal(err)
	}
	const count = `SELECT string_agg(lexeme || ' ' || l.chunks, ', ' ORDER BY lexeme) || ' of ' || min(t.chunks) || ', ' || min(t.tokens)
		FROM lexicon l JOIN lexicon_totals t USING (collection_id)`
	for _, kept := range []string{"by triggers", "by the migration"} {
		var got string
		if err := pool.QueryRow(t.Context(), count).Scan(&got); err != nil || got != "one 3, two 1 of 3, 6" {
			t.Errorf("%s: %q, %v", kept, got, err)
		}
		db := stdlib.OpenDBFromPool(pool)
		defer db.Close()
		provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations.Files)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := provider.DownTo(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		if _, err := provider.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
