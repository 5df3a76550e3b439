package ingest_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"lessrag/cmd/api/postgres/pgtest"
	"lessrag/ingest"
)

func TestIngestMakesDocumentsSearchable(t *testing.T) {
	pool := pgtest.New(t)
	s := newService(t, pool, &hashEmbedder{})
	start(t, s)
	f := file("notes/turtles.md", essay("one", 8))
	f.Source, f.Metadata = "/home/me/notes/turtles.md", map[string]any{"lang": "en", "n": 3.0}
	submitted := submit(t, s, "books", f, file("empty.txt", " \n\t "), ingest.File{Name: "x.pdf", Content: []byte("\x89PNG\r\n\x1a\n not what it is called")})
	p := await(t, s, submitted.IngestionID)
	if p.Ready != 1 || p.Failed != 2 || p.ETA == nil || *p.ETA != 0 {
		t.Fatalf("got %+v", p)
	}
	for i, want := range []struct {
		state  ingest.State
		stage  string
		reason string
	}{{ingest.Ready, "", ""}, {ingest.Failed, "extracting", "no text found in empty.txt"}, {ingest.Failed, "extracting", "unsupported media type image/png"}} {
		d, err := s.Document(t.Context(), submitted.Documents[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		if d.State != want.state || d.Stage != want.stage || !strings.HasPrefix(d.Error, want.reason) {
			t.Errorf("%s is %s at %q: %q", d.Name, d.State, d.Stage, d.Error)
		}
	}

	id := submitted.Documents[0].ID
	d, err := s.Document(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if d.MediaType != "text/markdown" || d.Metadata["lang"] != "en" || d.Metadata["n"] != 3.0 || d.Source != f.Source || d.Collection != "books" || d.Done != 1 {
		t.Errorf("got %+v", d)
	}
	text, err := s.Text(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := pool.Query(t.Context(), `SELECT ordinal, text, start_offset, end_offset, heading_path, tokens,
		embedding::text, lexemes @@ to_tsquery('english', 'turtle & speak'), lexemes @@ to_tsquery('english', 'essay')
		FROM chunks WHERE document_id = $1 ORDER BY ordinal`, id)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var ordinal, from, to, tokens int
		var passage, vector string
		var path []string
		var speaks, essay bool
		if err := rows.Scan(&ordinal, &passage, &from, &to, &path, &tokens, &vector, &speaks, &essay); err != nil {
			t.Fatal(err)
		}
		if ordinal != n || passage != text[from:to] || len(path) == 0 || path[0] != "Essay one" || tokens != len(strings.Fields(passage)) {
			t.Errorf("passage %d: ordinal %d, [%d,%d), under %q, %d tokens", n, ordinal, from, to, path, tokens)
		}
		if !speaks || !essay {
			t.Errorf("passage %d is not found by its words and its heading", n)
		}
		if !strings.HasPrefix(vector, "[") || strings.Contains(vector, "NaN") {
			t.Errorf("passage %d has the vector %.40s", n, vector)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if n < 4 || n != d.Chunks {
		t.Errorf("%d passages, the document says %d", n, d.Chunks)
	}
	if _, err := s.Text(t.Context(), submitted.Documents[1].ID); !errors.Is(err, ingest.ErrState) {
		t.Errorf("the text of a failed document: %v", err)
	}
}

func TestDuplicatesAreNotEmbeddedAgain(t *testing.T) {
	pool := pgtest.New(t)
	e := &hashEmbedder{}
	s := newService(t, pool, e)
	start(t, s)
	first := submit(t, s, "c", file("a.md", essay("a", 2)), file("bad.txt", "  "))
	await(t, s, first.IngestionID)
	embedded := e.texts.Load()

	again := submit(t, s, "c", file("a.md", essay("a", 2)), file("copy of a.md", essay("a", 2)), file("bad.txt", "  "))
	p := await(t, s, again.IngestionID)
	if p.Total != 2 || p.Ready != 1 || p.Failed != 1 {
		t.Errorf("got %+v", p)
	}
	for i, want := range []string{first.Documents[0].ID, first.Documents[0].ID, first.Documents[1].ID} {
		if d := again.Documents[i]; !d.Duplicate || d.ID != want {
			t.Errorf("file %d became %+v, not a duplicate of %s", i, d, want)
		}
	}
	if again.Documents[2].State != ingest.Failed {
		t.Error("the hash of a failed document is forgotten")
	}
	if n := e.texts.Load(); n != embedded {
		t.Errorf("%d passages were embedded again", n-embedded)
	}
	other := submit(t, s, "d", file("a.md", essay("a", 2)))
	if other.Documents[0].Duplicate {
		t.Error("a document of another collection counts as a duplicate")
	}
	await(t, s, other.IngestionID)
}

func TestNewVersionReplacesTheOldAtOnce(t *testing.T) {
	pool := pgtest.New(t)
	e := &hashEmbedder{}
	s := newService(t, pool, e)
	start(t, s)
	first := submit(t, s, "c", file("a.md", essay("old", 3)))
	await(t, s, first.IngestionID)
	id := first.Documents[0].ID

	e.block = make(chan struct{})
	second := submit(t, s, "c", file("a.md", essay("new", 5)))
	if second.Documents[0].ID != id || second.Documents[0].Duplicate {
		t.Fatalf("the new version became %+v", second.Documents[0])
	}
	awaitState(t, s, id, ingest.Embedding)
	if n := count(t, pool, "SELECT count(*) FROM chunks WHERE document_id = $1 AND text LIKE '%essay old%'", id); n != 3 {
		t.Errorf("%d of 3 old passages are visible while the new version is made", n)
	}
	if text, err := s.Text(t.Context(), id); err != nil || !strings.Contains(text, "essay old") {
		t.Errorf("the text changed before the passages: %.40q, %v", text, err)
	}
	close(e.block)
	await(t, s, second.IngestionID)
	if n := count(t, pool, "SELECT count(*) FROM chunks WHERE text LIKE '%essay old%'"); n != 0 {
		t.Errorf("%d old passages outlived their version", n)
	}
	if n := count(t, pool, "SELECT count(*) FROM chunks WHERE text LIKE '%essay new%'"); n != 5 {
		t.Errorf("%d of 5 new passages", n)
	}

	bad := submit(t, s, "c", file("a.md", "..."))
	await(t, s, bad.IngestionID)
	d, err := s.Document(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if d.State != ingest.Failed || d.Chunks != 5 || count(t, pool, "SELECT count(*) FROM chunks") != 5 {
		t.Errorf("after a version that failed: %+v", d)
	}
}

func awaitState(t *testing.T, s *ingest.Service, id string, want ingest.State) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		d, err := s.Document(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if d.State == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("document %s is %s, not %s", id, d.State, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestSupersededVersionEnds(t *testing.T) {
	pool := pgtest.New(t)
	e := &hashEmbedder{block: make(chan struct{})}
	s := newService(t, pool, e)
	start(t, s)
	first := submit(t, s, "c", file("a.md", essay("old", 3)))
	awaitState(t, s, first.Documents[0].ID, ingest.Embedding)
	second := submit(t, s, "c", file("a.md", essay("new", 5)))
	close(e.block)
	await(t, s, second.IngestionID)
	if n, m := count(t, pool, "SELECT count(*) FROM chunks"), count(t, pool, "SELECT count(*) FROM chunks WHERE text LIKE '%essay new%'"); n != 5 || m != 5 {
		t.Errorf("%d passages, %d of them new, want 5", n, m)
	}
}

func TestDeleteRemovesEverything(t *testing.T) {
	pool := pgtest.New(t)
	e := &hashEmbedder{}
	s := newService(t, pool, e)
	start(t, s)
	first := submit(t, s, "c", file("a.md", essay("a", 3)))
	await(t, s, first.IngestionID)
	e.block = make(chan struct{})
	running := submit(t, s, "c", file("b.md", essay("b", 3)))
	awaitState(t, s, running.Documents[0].ID, ingest.Embedding)
	for _, id := range []string{first.Documents[0].ID, running.Documents[0].ID} {
		if err := s.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), id); !errors.Is(err, ingest.ErrNotFound) {
			t.Errorf("deleting again: %v", err)
		}
	}
	close(e.block)
	again := submit(t, s, "c", file("c.md", essay("c", 2))) // the worker is free for it
	await(t, s, again.IngestionID)
	for table, want := range map[string]int{"documents": 1, "document_bodies": 1, "chunks": 2, "ingestion_documents": 1} {
		if n := count(t, pool, "SELECT count(*) FROM "+table); n != want {
			t.Errorf("%d rows in %s, want %d", n, table, want)
		}
	}
	if err := s.DeleteCollection(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"documents", "document_bodies", "chunks", "ingestions", "collections"} {
		if n := count(t, pool, "SELECT count(*) FROM "+table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
}

func TestTransientFailuresAreTriedAgain(t *testing.T) {
	pool := pgtest.New(t)
	e := &hashEmbedder{}
	e.failing.Store(1)
	s := newService(t, pool, e)
	start(t, s)
	p := await(t, s, submit(t, s, "c", file("a.md", essay("a", 2))).IngestionID)
	if p.Ready != 1 || e.calls.Load() < 2 {
		t.Errorf("got %+v after %d calls", p, e.calls.Load())
	}
}

func TestGivingUpHasAReason(t *testing.T) {
	pool := pgtest.New(t)
	e := &hashEmbedder{}
	e.failing.Store(math.MaxInt32)
	s := newService(t, pool, e)
	submitted := submit(t, s, "c", file("a.md", essay("a", 2)))
	if _, err := pool.Exec(t.Context(), "UPDATE river_job SET max_attempts = 1"); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	p := await(t, s, submitted.IngestionID)
	if d := p.Documents[0]; d.State != ingest.Failed || d.Stage != "embedding" || !strings.Contains(d.Error, errFlaky.Error()) {
		t.Fatalf("got %+v", d)
	}
	e.failing.Store(0)
	if err := s.Retry(t.Context(), submitted.Documents[0].ID); err != nil {
		t.Fatal(err)
	}
	if p := await(t, s, submitted.IngestionID); p.Ready != 1 || p.Documents[0].Error != "" {
		t.Errorf("after the retry: %+v", p)
	}
	if err := s.Retry(t.Context(), submitted.Documents[0].ID); !errors.Is(err, ingest.ErrState) {
		t.Errorf("retry of a ready document: %v", err)
	}
}

func TestDuplicateDeliveryIsHarmless(t *testing.T) {
	pool := pgtest.New(t)
	e := &hashEmbedder{delay: 5 * time.Millisecond}
	s := newService(t, pool, e)
	submitted := submit(t, s, "c", file("a.md", essay("a", 6)))
	for range 3 {
		_, err := pool.Exec(t.Context(), `INSERT INTO river_job (args, kind, max_attempts, priority, queue, state, scheduled_at)
			SELECT args, kind, max_attempts, priority, queue, 'available', now() FROM river_job ORDER BY id LIMIT 1`)
		if err != nil {
			t.Fatal(err)
		}
	}
	start(t, s)
	await(t, s, submitted.IngestionID)
	deadline := time.Now().Add(20 * time.Second)
	for count(t, pool, "SELECT count(*) FROM river_job WHERE state <> 'completed'") > 0 {
		if time.Now().After(deadline) {
			t.Fatal("a second delivery does not end")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if n := count(t, pool, "SELECT count(*) FROM chunks"); n != 6 || e.texts.Load() != 6 {
		t.Errorf("%d passages are there and %d were embedded, want 6", n, e.texts.Load())
	}
}

func TestLostJobsAreQueuedAgain(t *testing.T) {
	pool := pgtest.New(t)
	s := newService(t, pool, &hashEmbedder{})
	submitted := submit(t, s, "c", file("a.md", essay("a", 2)))
	if _, err := pool.Exec(t.Context(), "DELETE FROM river_job"); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	if p := await(t, s, submitted.IngestionID); p.Ready != 1 {
		t.Errorf("got %+v", p)
	}
}

func TestStopHandsWorkBack(t *testing.T) {
	pool := pgtest.New(t)
	blocked := &hashEmbedder{block: make(chan struct{})}
	s := newService(t, pool, blocked)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	submitted := submit(t, s, "c", file("a.md", essay("a", 2)))
	awaitState(t, s, submitted.Documents[0].ID, ingest.Embedding)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Document(t.Context(), submitted.Documents[0].ID); err != nil || d.State != ingest.Queued {
		t.Fatalf("after the stop: %+v, %v", d, err)
	}
	if n := count(t, pool, "SELECT count(*) FROM river_job WHERE state = 'available' AND attempt = 0"); n != 1 {
		t.Errorf("%d jobs are back in the queue, want 1", n)
	}
	next := newService(t, pool, &hashEmbedder{})
	start(t, next)
	await(t, next, submitted.IngestionID)
}

func TestDeathsAtOneDocumentAreCounted(t *testing.T) {
	pool := pgtest.New(t)
	s := newService(t, pool, &hashEmbedder{})
	submitted := submit(t, s, "c", file("a.md", essay("a", 2)))
	// As recovery leaves a job whose process died at every attempt.
	if _, err := pool.Exec(t.Context(), "UPDATE river_job SET attempt = max_attempts"); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	p := await(t, s, submitted.IngestionID)
	if d := p.Documents[0]; d.State != ingest.Failed || !strings.Contains(d.Error, "died 10 times") {
		t.Errorf("got %+v", d)
	}
}

func TestPanicFailsItsDocumentOnly(t *testing.T) {
	pool := pgtest.New(t)
	e := &hashEmbedder{panics: true}
	s := newService(t, pool, e)
	start(t, s)
	p := await(t, s, submit(t, s, "c", file("a.md", essay("a", 2))).IngestionID)
	if d := p.Documents[0]; d.State != ingest.Failed || d.Stage != "embedding" || d.Error != "internal error: out of turtles" {
		t.Errorf("got %+v", d)
	}
}

func TestProgressEstimatesFromWorkDone(t *testing.T) {
	pool := pgtest.New(t)
	e := &hashEmbedder{}
	s := newService(t, pool, e)
	submitted := submit(t, s, "c", file("a.md", essay("a", 4)), file("b.md", essay("b", 4)))
	p, err := s.Ingestion(t.Context(), submitted.IngestionID)
	if err != nil || p.Pending != 2 || p.ETA != nil {
		t.Fatalf("before any work: %+v, %v", p, err)
	}
	start(t, s)
	await(t, s, submitted.IngestionID)
	e.block = make(chan struct{})
	defer close(e.block)
	more := submit(t, s, "c", file("c.md", essay("c", 4)))
	p, err = s.Ingestion(t.Context(), more.IngestionID)
	if err != nil || p.Pending != 1 || p.Ahead != 0 || p.ETA == nil || *p.ETA <= 0 || *p.ETA > time.Hour {
		t.Errorf("with a known rate: %+v, %v", p, err)
	}
	other := submit(t, s, "d", file("d.md", essay("d", 4)), file("e.md", essay("e", 4)))
	p, err = s.Ingestion(t.Context(), other.IngestionID)
	if err != nil || p.Pending != 2 || p.Ahead != 1 {
		t.Errorf("behind a document of another collection: %+v, %v", p, err)
	}
}
