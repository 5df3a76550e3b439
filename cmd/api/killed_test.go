package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// killedLimit is what the last run may take, on a machine that other programs share.
const killedLimit = 14 * time.Minute

// longEnv makes these tests as long as the promise is: 200 documents, 20 deaths of the program, 10 of Postgres.
const longEnv = "LESSRAG_TEST_LONG"

// killing is a directory of documents that is ingested while something dies again and again.
type killing struct {
	data, documents string
	n               int
	changed         map[string]bool // files that have been written anew meanwhile
}

func newKilling(t *testing.T, n int) *killing {
	k := &killing{data: t.TempDir(), documents: t.TempDir(), n: n, changed: map[string]bool{}}
	for i := range n {
		k.write(t, i, "first")
	}
	return k
}

// fails tells which documents have no text.
func (k *killing) fails(i int) bool { return i%20 == 7 }

func (k *killing) name(i int) string { return filepath.Join(k.documents, fmt.Sprintf("%03d.md", i)) }

// write makes the file of a document of some 1,500 tokens; version stands in every paragraph of it.
func (k *killing) write(t *testing.T, i int, version string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "# Number %d\n\n", i)
	for p := range 100 {
		fmt.Fprintf(&b, "Paragraph %d about the number %d and what follows from the %s version of it.\n\n", p, i, version)
	}
	text := b.String()
	if k.fails(i) {
		text = strings.Repeat(" ", 10+i) + "\n"
	}
	if err := os.WriteFile(k.name(i), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// change writes every ninth file anew.
func (k *killing) change(t *testing.T) {
	for i := 0; i < k.n; i += 9 {
		if !k.fails(i) {
			k.write(t, i, "second")
			k.changed[filepath.ToSlash(k.name(i))] = true
		}
	}
}

// connect opens a connection of our own to the Postgres of the data directory, which may run although every program
// that used it was killed. It holds no lock there and so does not mend what is broken.
func (k *killing) connect(ctx context.Context) (*pgx.Conn, error) {
	lines, err := k.postmaster()
	if err != nil {
		return nil, err
	}
	q := url.Values{"host": {lines[4]}, "user": {"lessrag"}, "sslmode": {"disable"}}
	return pgx.Connect(ctx, "postgres:///lessrag?"+q.Encode())
}

func (k *killing) postmaster() ([]string, error) {
	text, err := os.ReadFile(filepath.Join(k.data, "postgres", "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 8 || strings.TrimSpace(lines[7]) != "ready" {
		return nil, errors.New("Postgres is starting")
	}
	return lines, nil
}

// pending counts the documents that have not ended; false where the database cannot be asked.
func (k *killing) pending(ctx context.Context) (pending, all int, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := k.connect(ctx)
	if err != nil {
		return 0, 0, false
	}
	defer c.Close(context.WithoutCancel(ctx))
	err = c.QueryRow(ctx, "SELECT count(*) FILTER (WHERE state NOT IN ('ready', 'failed')), count(*) FROM documents").Scan(&pending, &all)
	return pending, all, err == nil
}

// watch looks for documents that can be seen in part, in one snapshot each time, until ctx ends. It tells how often it
// has looked.
func (k *killing) watch(ctx context.Context) (looks int, err error) {
	for ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
		c, err := k.connect(ctx)
		for err == nil {
			var halves int
			err = c.QueryRow(ctx, `SELECT count(*) FROM (SELECT d.chunks, count(c.id) AS visible, min(c.ordinal) AS first, max(c.ordinal) AS last
				FROM documents d LEFT JOIN chunks c ON c.document_id = d.id GROUP BY d.id
			) WHERE chunks <> visible OR visible > 0 AND (first <> 0 OR last <> visible - 1)`).Scan(&halves)
			if err == nil {
				looks++
			}
			if halves > 0 {
				c.Close(context.WithoutCancel(ctx))
				return looks, fmt.Errorf("%d documents are visible in part", halves)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if c != nil {
			c.Close(context.WithoutCancel(ctx))
		}
	}
	return looks, nil
}

// watching starts a watch; the function that it returns ends it and says what it saw.
func (k *killing) watching(t *testing.T) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	type seen struct {
		looks int
		err   error
	}
	done := make(chan seen, 1)
	go func() {
		looks, err := k.watch(ctx)
		done <- seen{looks, err}
	}()
	return func() {
		cancel()
		s := <-done
		if s.err != nil || s.looks == 0 {
			t.Errorf("looked %d times for documents visible in part: %v", s.looks, s.err)
		}
		t.Logf("looked %d times for documents visible in part", s.looks)
	}
}

// check holds the database of a batch that has been followed to its end to all that was promised.
func (k *killing) check(t *testing.T, o outcome) {
	t.Helper()
	failing := 0
	for i := range k.n {
		if k.fails(i) {
			failing++
		}
	}
	if o.Total != k.n || o.Ready != k.n-failing || o.Failed != failing {
		t.Errorf("%d of %d ready and %d failed, want %d of %d and %d", o.Ready, o.Total, o.Failed, k.n-failing, k.n, failing)
	}
	s := &stack{globals: &globals{Assets: assetsDir(t), Data: k.data}}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.openDatabase(t.Context()); err != nil {
		t.Fatal(err)
	}
	var changed []string
	for name := range k.changed {
		changed = append(changed, name)
	}
	for _, c := range []struct {
		what, query string
		args        []any
		want        int
	}{
		{"documents", "SELECT count(*) FROM documents", nil, k.n},
		{"names", "SELECT count(DISTINCT name) FROM document_names", nil, k.n},
		{"documents that failed for no reason", "SELECT count(*) FROM documents WHERE state = 'failed' AND error = ''", nil, 0},
		{"documents whose passages are not theirs all and once", `SELECT count(*) FROM (SELECT d.chunks, d.state, count(c.id) AS n, coalesce(max(c.ordinal), -1) AS last
			FROM documents d LEFT JOIN chunks c ON c.document_id = d.id GROUP BY d.id) WHERE chunks <> n OR last <> n - 1 OR (state = 'ready') <> (n > 0)`, nil, 0},
		{"passages that are not of the stored text", `SELECT count(*) FROM chunks c JOIN document_bodies b USING (document_id)
			WHERE c.text <> convert_from(substr(convert_to(b.text, 'UTF8'), c.start_offset + 1, c.end_offset - c.start_offset), 'UTF8')`, nil, 0},
		{"passages of dead versions", `SELECT count(*) FROM chunks c JOIN documents d ON d.id = c.document_id
			WHERE (d.name = ANY($1)) <> (c.text LIKE '%second version%')`, []any{changed}, 0},
		{"words counted for passages that are not there", `SELECT count(*) FROM (SELECT chunks, tokens FROM lexicon_totals
			EXCEPT SELECT count(*), sum(tokens) FROM chunks GROUP BY collection_id)`, nil, 0},
		{"words counted wrongly", `SELECT count(*) FROM (SELECT collection_id, lexeme, count(*)::int AS n FROM chunks, unnest(tsvector_to_array(lexemes)) AS lexeme GROUP BY 1, 2) a
			FULL JOIN lexicon l USING (collection_id, lexeme) WHERE a.n IS DISTINCT FROM l.chunks`, nil, 0},
		{"jobs left", "SELECT count(*) FROM river_job WHERE state NOT IN ('completed', 'cancelled', 'discarded')", nil, 0},
	} {
		var got int
		if err := s.pool.QueryRow(t.Context(), c.query, c.args...).Scan(&got); err != nil || got != c.want {
			t.Errorf("%s: %d, want %d (%v)", c.what, got, c.want, err)
		}
	}
}

// ingest runs the command to its end; documents fail, so it must say so.
func (k *killing) ingest(t *testing.T) outcome {
	t.Helper()
	out := runWithin(t, killedLimit, k.data, "ingest", k.documents, "--json")
	return decodeOutcome(t, out)
}

func decodeOutcome(t *testing.T, out output) outcome {
	t.Helper()
	var o outcome
	if err := json.Unmarshal([]byte(out.stdout), &o); err != nil || out.code != exitFailed {
		t.Fatalf("exit code %d, %v\n%s\n%s", out.code, err, out.stdout, out.stderr)
	}
	return o
}

// TestKilledIngestion kills the program without warning at random moments, as a command and as a server in turn, until
// it has been caught at work often enough. Files change meanwhile. Left alone then, it must bring all to an end.
func TestKilledIngestion(t *testing.T) {
	documents, kills := 60, 3
	if os.Getenv(longEnv) != "" {
		documents, kills = 200, 20
	}
	k := newKilling(t, documents)
	end := k.watching(t)
	caught, deaths, least := 0, 0, time.Second
	for caught < kills {
		args := []string{"ingest", k.documents}
		if deaths%2 == 1 {
			args = []string{"serve", "--addr", "127.0.0.1:0"}
		}
		ctx, cancel := context.WithTimeout(t.Context(), least+time.Duration(rand.IntN(1200))*time.Millisecond)
		_ = command(ctx, t, k.data, args...).Run() // the context's end kills it; how it ended is seen in the database
		cancel()
		deaths++
		pending, all, ok := k.pending(t.Context())
		switch {
		case ok && pending > 0 && all == documents:
			caught++
		case ok && all == documents:
			t.Fatalf("all was done after %d of %d deaths at work: there is too little of it", caught, kills)
		default: // killed before everything was handed in
			least += 200 * time.Millisecond
		}
		if caught == kills/2 && len(k.changed) == 0 {
			k.change(t)
		}
	}
	t.Logf("%d deaths, %d of them at work", deaths, caught)
	o := k.ingest(t)
	end()
	k.check(t, o)
}

// TestKilledPostgres kills the database under a running ingestion, which must go on by itself.
func TestKilledPostgres(t *testing.T) {
	documents, kills := 60, 2
	if os.Getenv(longEnv) != "" {
		documents, kills = 200, 10
	}
	k := newKilling(t, documents)
	end := k.watching(t)
	ctx, cancel := context.WithTimeout(t.Context(), killedLimit)
	defer cancel()
	cmd := command(ctx, t, k.data, "ingest", k.documents, "--json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for killed := 0; killed < kills; {
		time.Sleep(time.Duration(200+rand.IntN(800)) * time.Millisecond)
		pending, all, ok := k.pending(ctx)
		lines, err := k.postmaster()
		switch {
		case ctx.Err() != nil:
			t.Fatalf("after %d deaths of Postgres it came back no more\n%s", killed, stderr.String())
		case err != nil || !ok || all < documents:
			continue // not everything is handed in, or Postgres is being started
		case pending == 0:
			t.Fatalf("all was done after %d of %d deaths: there is too little of it", killed, kills)
		}
		pid, err := strconv.Atoi(lines[0])
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	end()
	k.check(t, decodeOutcome(t, output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}))
}
