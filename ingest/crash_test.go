package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"lessrag/cmd/api/postgres"
	"lessrag/cmd/api/postgres/pgtest"
	"lessrag/ingest"
	"lessrag/migrations"
)

// longEnv makes the tests of crashes as long as the specification asks: 200 documents, 20 deaths of the service, 10 of Postgres.
const longEnv = "LESSRAG_TEST_LONG"

// TestKilledServiceLosesNothing kills the process that ingests again and again, at random moments.
func TestKilledServiceLosesNothing(t *testing.T) {
	documents, kills := 80, 8
	if os.Getenv(longEnv) != "" {
		documents, kills = 200, 20
	}
	url := pgtest.Database(t)
	pool, err := postgres.Pool(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s := newService(t, pool, &hashEmbedder{}) // accepts documents, works on none
	var files []ingest.File
	want := map[string]int{} // passages of each document; 0 fails
	for i := range documents {
		name := fmt.Sprintf("%03d.md", i)
		want[name] = i % 20
		files = append(files, file(name, essay(name, i%20)))
		if i%20 == 0 {
			files[i].Content = []byte(fmt.Sprint("\x89PNG\r\n\x1a\n", i))
		}
	}
	first := submit(t, s, "c", files...)

	watched, stopWatching := context.WithCancel(t.Context())
	halves := make(chan error, 1)
	go func() { halves <- watchForHalves(watched, pool) }()
	for kill := range kills {
		child := startChild(t, url)
		time.Sleep(time.Duration(100+rand.IntN(500)) * time.Millisecond)
		if kill == kills/2 { // new versions arrive while old ones are worked on
			for i := 1; i < documents; i += 9 {
				want[files[i].Name] = 21
				submit(t, s, "c", file(files[i].Name, essay(files[i].Name, 21)))
			}
		}
		child.Process.Signal(syscall.SIGKILL)
		child.Wait()
	}
	if n := count(t, pool, "SELECT count(*) FROM documents WHERE state NOT IN ('ready', 'failed')"); n == 0 {
		t.Error("all was done before the last kill: the test kills too late")
	}
	last := startChild(t, url)
	defer func() {
		last.Process.Kill()
		last.Wait()
	}()
	p := await(t, s, first.IngestionID)
	stopWatching()
	if err := <-halves; err != nil {
		t.Error(err)
	}

	if p.Total != documents {
		t.Errorf("%d of %d documents", p.Total, documents)
	}
	for _, d := range p.Documents {
		n := count(t, pool, "SELECT count(*) FROM chunks WHERE document_id = $1", d.ID)
		switch {
		case want[d.Name] == 0 && (d.State != ingest.Failed || d.Error == "" || n != 0):
			t.Errorf("%s is %s with %d passages: %q", d.Name, d.State, n, d.Error)
		case want[d.Name] > 0 && (d.State != ingest.Ready || n != d.Chunks || n != passages(want[d.Name])):
			t.Errorf("%s is %s with %d passages, says %d, want %d: %q", d.Name, d.State, n, d.Chunks, passages(want[d.Name]), d.Error)
		}
	}
}

// passages that an essay of some sections is cut into; two short ones stay apart.
func passages(sections int) int { return sections }

func startChild(t *testing.T, url string) *exec.Cmd {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+url)
	var output bytes.Buffer
	child.Stderr = &output
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && output.Len() > 0 {
			t.Logf("a child said: %s", output.String())
		}
	})
	return child
}

// watchForHalves looks, in one snapshot each time, for documents whose passages are not all of one version.
func watchForHalves(ctx context.Context, pool *pgxpool.Pool) error {
	for ctx.Err() == nil {
		var halves int
		err := pool.QueryRow(ctx, `SELECT count(*) FROM (
			SELECT d.chunks, count(c.id) AS visible FROM documents d LEFT JOIN chunks c ON c.document_id = d.id GROUP BY d.id
		) WHERE chunks <> visible`).Scan(&halves)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if halves > 0 {
			return fmt.Errorf("%d documents are visible in part", halves)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// TestKilledPostgresLosesNothing kills the database under a running service, which is not started again.
func TestKilledPostgresLosesNothing(t *testing.T) {
	documents, kills, delay := 40, 3, 20*time.Millisecond
	if os.Getenv(longEnv) != "" {
		documents, kills, delay = 200, 10, 50*time.Millisecond
	}
	data, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(data) })
	cluster, err := postgres.Start(t.Context(), postgres.Options{Data: data, Binaries: pgtest.Binaries(), Logger: smallOptions.Logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Stop(context.Background()) })
	pool, err := postgres.Pool(t.Context(), cluster.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	s := newService(t, pool, &hashEmbedder{delay: delay})
	start(t, s)
	var files []ingest.File
	for i := range documents {
		name := fmt.Sprintf("%03d.md", i)
		files = append(files, file(name, essay(name, 1+i%10)))
	}
	id := submit(t, s, "c", files...).IngestionID

	for killed := 0; killed < kills; {
		time.Sleep(time.Duration(300+rand.IntN(700)) * time.Millisecond)
		text, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
		if err != nil {
			continue // it is being started
		}
		pid, err := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
		if err != nil {
			continue
		}
		if p, err := s.Ingestion(t.Context(), id); err == nil && p.Pending == 0 {
			t.Fatalf("all was done after %d of %d deaths: the test kills too late", killed, kills)
		}
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		p, err := s.Ingestion(t.Context(), id)
		if err == nil && p.Pending == 0 {
			if p.Ready != documents {
				t.Errorf("%d of %d are ready: %+v", p.Ready, documents, p.Documents)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not done: %+v, %v", p, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	want := 0
	for i := range documents {
		want += 1 + i%10
	}
	if n := count(t, pool, "SELECT count(*) FROM chunks"); n != want {
		t.Errorf("%d passages, want %d", n, want)
	}
	if n := count(t, pool, "SELECT count(*) FROM documents"); n != documents {
		t.Errorf("%d documents, want %d", n, documents)
	}
}
