package migrations_test

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

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
