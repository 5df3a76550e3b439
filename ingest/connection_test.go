package ingest_test

import (
	"testing"

	"lessrag/cmd/api/postgres"
	"lessrag/cmd/api/postgres/pgtest"
)

// TestConnectionsComeBackAsTheyWere: work on documents takes settings for itself that others must not get, least of
// all submissions, whose commits are promised to be on the disk.
func TestConnectionsComeBackAsTheyWere(t *testing.T) {
	pool, err := postgres.Pool(t.Context(), pgtest.Database(t)+"&synchronous_commit=local")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s := newService(t, pool, &hashEmbedder{})
	start(t, s)
	p := await(t, s, submit(t, s, "c", file("a.md", essay("a", 3)), file("b.md", " "), file("c.md", essay("c", 2))).IngestionID)
	if p.Ready != 2 || p.Failed != 1 {
		t.Fatalf("%+v", p)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	idle := pool.AcquireAllIdle(t.Context())
	if len(idle) == 0 {
		t.Fatal("no connection is idle")
	}
	for _, c := range idle {
		var plans, commits string
		if err := c.QueryRow(t.Context(), "SELECT current_setting('plan_cache_mode'), current_setting('synchronous_commit')").Scan(&plans, &commits); err != nil {
			t.Fatal(err)
		}
		if plans != "force_custom_plan" || commits != "local" {
			t.Errorf("a connection came back with %q and %q", plans, commits)
		}
		c.Release()
	}
}
