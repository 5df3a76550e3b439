package ingest_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"lessrag/cmd/api/postgres"
	"lessrag/cmd/api/postgres/pgtest"
	"lessrag/ingest"
)

const childEnv = "LESSRAG_TEST_INGEST_CHILD"

func TestMain(m *testing.M) {
	if url := os.Getenv(childEnv); url != "" {
		os.Exit(runChild(url))
	}
	os.Exit(pgtest.Run(m))
}

// runChild ingests from the database until it is killed.
func runChild(url string) int {
	ctx := context.Background()
	pool, err := postgres.Pool(ctx, url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s, err := ingest.New(pool, &hashEmbedder{delay: 3 * time.Millisecond}, words{}, smallOptions)
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	select {}
}

// words counts words. The decoder's tokenizer is not what is tested here.
type words struct{}

func (words) Count(s string) int { return len(strings.Fields(s)) }

const dim = 384

// hashEmbedder makes a unit vector of the words of a text, deterministically. For tests only.
type hashEmbedder struct {
	name    string
	delay   time.Duration
	failing atomic.Int32 // how many calls fail before one works
	block   chan struct{}
	panics  bool
	calls   atomic.Int32
	texts   atomic.Int32
}

func (e *hashEmbedder) Name() string {
	if e.name == "" {
		return "hash-of-words"
	}
	return e.name
}

func (e *hashEmbedder) Dim() int { return dim }

var errFlaky = errors.New("the embedder is not well")

func (e *hashEmbedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	e.calls.Add(1)
	if e.panics {
		panic("out of turtles")
	}
	if e.failing.Add(-1) >= 0 {
		return nil, errFlaky
	}
	if e.block != nil {
		select {
		case <-e.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	time.Sleep(e.delay)
	e.texts.Add(int32(len(texts)))
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		v := make([]float32, dim)
		for _, w := range strings.Fields(strings.ToLower(text)) {
			h := sha256.Sum256([]byte(w))
			v[binary.LittleEndian.Uint32(h[:])%dim]++
		}
		var sum float64
		for _, x := range v {
			sum += float64(x * x)
		}
		for j := range v {
			v[j] = float32(float64(v[j]) / math.Sqrt(sum))
		}
		vectors[i] = v
	}
	return vectors, nil
}

var smallOptions = ingest.Options{Workers: 2, ChunkTokens: 40, ChunkMax: 56, ChunkOverlap: 8, BatchSize: 4,
	MaxBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)}

func newService(t *testing.T, pool *pgxpool.Pool, e ingest.Embedder) *ingest.Service {
	t.Helper()
	s, err := ingest.New(pool, e, words{}, smallOptions)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func start(t *testing.T, s *ingest.Service) {
	t.Helper()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func submit(t *testing.T, s *ingest.Service, collection string, files ...ingest.File) ingest.Submission {
	t.Helper()
	got, err := s.Submit(t.Context(), collection, files)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Documents) != len(files) {
		t.Fatalf("%d documents for %d files", len(got.Documents), len(files))
	}
	return got
}

// await waits until an ingestion is done.
func await(t *testing.T, s *ingest.Service, id string) ingest.Progress {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		p, err := s.Ingestion(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if p.Total != p.Ready+p.Failed+p.Pending {
			t.Fatalf("%d are ready, %d failed, %d pending of %d", p.Ready, p.Failed, p.Pending, p.Total)
		}
		if p.Pending == 0 {
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("still pending: %+v", p)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func file(name, text string) ingest.File {
	return ingest.File{Name: name, Content: []byte(text)}
}

// essay is a Markdown document of some passages that says which one it is.
func essay(name string, sections int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Essay %s\n\n", name)
	for i := range sections {
		fmt.Fprintf(&b, "## Part %d\n\n%s\n\n", i, strings.Repeat(fmt.Sprintf("Part %d of essay %s speaks of turtles. ", i, name), 5))
	}
	return b.String()
}

func count(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) int {
	t.Helper()
	var n int
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// submitAny is submit for files that need not become one document each.
func submitAny(t *testing.T, s *ingest.Service, collection string, files ...ingest.File) ingest.Submission {
	t.Helper()
	got, err := s.Submit(t.Context(), collection, files)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// zipOf makes a zip of files by name.
func zipOf(t *testing.T, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		e, err := w.Create(f[0])
		if err == nil {
			_, err = e.Write([]byte(f[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
