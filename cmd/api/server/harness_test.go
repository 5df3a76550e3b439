package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"lessrag/cmd/api/answer"
	"lessrag/cmd/api/postgres/pgtest"
	"lessrag/decode"
	"lessrag/decode/embed"
	"lessrag/ingest"
	"lessrag/ingest/fetch"
	"lessrag/lesskernels/cpu"
	"lessrag/retrieve"
)

// patience is how long a test waits for what must come. Machines are slow at
// times; nothing here is a measurement.
const patience = 2 * time.Minute

// models are opened once for all tests: the real reader and embedder.
var models struct {
	once     sync.Once
	err      error
	engine   *decode.Engine
	pool     *cpu.Pool
	embedder *embed.Model
}

func TestMain(m *testing.M) {
	code := pgtest.Run(m)
	if models.engine != nil {
		models.engine.Close()
	}
	if models.pool != nil {
		models.pool.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		// The cluster may serve other test programs still: then its server outlives this one.
		cluster := goleak.IgnoreAnyFunction("lessrag/cmd/api/postgres.(*Cluster).launch.func1")
		if err := goleak.Find(cluster); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// asset is a file that make fetch puts into assets/.
func asset(name string) string {
	root := os.Getenv("LESSRAG_ASSETS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "assets")
	}
	return filepath.Join(root, name)
}

func openModels(t *testing.T) {
	t.Helper()
	models.once.Do(func() {
		if _, models.err = os.Stat(asset(reader)); models.err != nil {
			models.err = fmt.Errorf("%w: run make fetch", models.err)
			return
		}
		models.pool = cpu.NewPool(0)
		if models.embedder, models.err = embed.Open(asset("embedders/all-MiniLM-L6-v2"), models.pool); models.err != nil {
			return
		}
		models.engine, models.err = decode.Open(asset(reader), decode.Options{CacheMemory: 256 << 20})
	})
	if models.err != nil {
		t.Fatal(models.err)
	}
}

const reader = "models/SmolLM2-135M-Instruct.Q4_1.gguf"

// service is the whole stack on an address of its own.
type service struct {
	t       *testing.T
	url     string
	pool    *pgxpool.Pool
	ingest  *ingest.Service
	answers *answer.Service
	server  *Server
	log     *bytes.Buffer
}

// firstLoopback stands for the open internet: 127.0.0.1 and nothing else.
func firstLoopback(a netip.Addr) error {
	if a != netip.MustParseAddr("127.0.0.1") {
		return fmt.Errorf("%s: %w", a, fetch.ErrForbidden)
	}
	return nil
}

// newService starts a service over an empty database; change may be nil.
func newService(t *testing.T, change func(*Config)) *service {
	t.Helper()
	openModels(t)
	s := &service{t: t, pool: pgtest.New(t), log: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(&syncWriter{w: s.log}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	s.ingest, err = ingest.New(s.pool, models.embedder, models.engine.Tokenizer(), ingest.Options{Logger: log, Fetcher: fetch.NewWithin(1<<20, firstLoopback)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ingest.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	searcher := retrieve.New(s.pool, models.embedder, nil)
	s.answers = &answer.Service{
		Searcher: searcher, Engine: models.engine, Pool: s.pool, Log: log,
		Defaults: answer.Defaults{MinSimilarity: retrieve.MinSimilarity,
			Collection: "facts", Cache: "sinks", Budget: "256", Limit: 3,
			ContextTokens: 400, HistoryTokens: 1000, MaxTokens: 24, Sampling: decode.Sampling{RepeatPenalty: 1.1},
		},
	}
	config := Config{
		Pool: s.pool, Ingest: s.ingest, Searcher: searcher, Engine: models.engine, Answers: s.answers, Log: log,
		Version: "test", Device: "CPU", Embedder: models.embedder.Name(), Collection: "facts", Examples: []string{"When was the Aurora bridge opened?"},
	}
	if change != nil {
		change(&config)
	}
	s.answers.Engine = config.Engine
	s.server = New(config)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := s.ingest.Stop(ctx); err != nil {
			t.Errorf("stop the ingestion: %v", err)
		}
		if t.Failed() {
			t.Logf("the service's log:\n%s", s.log)
		}
	})
	return s
}

// syncWriter lets the handlers of many goroutines share a buffer.
type syncWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *syncWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// facts are documents whose answers no model knows.
var facts = map[string]string{
	"bridge.md": "# Aurora bridge\n\nThe Aurora bridge was opened on 4 May 1974 by the engineer Ilse Brandt. It spans the river Velm with a single arch of 312 metres. The toll for a bicycle is two crowns.\n",
	"cheese.md": "# Velm cheese\n\nVelm cheese ripens for nine months in limestone caves. Its rind is washed with beer every week, which turns it orange.\n",
	"clock.md":  "# The tower clock\n\nThe tower clock of Harrow strikes thirteen at noon, because its maker, Tobias Kern, counted the apprentices' lunch bell.\n",
}

// withFacts ingests the facts and waits until they are ready.
func (s *service) withFacts() *service {
	s.t.Helper()
	var files []ingest.File
	for name, text := range facts {
		files = append(files, ingest.File{Name: name, Source: name, Content: []byte(text)})
	}
	done, err := s.ingest.Submit(context.Background(), "facts", files)
	if err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the facts are ready", func() bool {
		p, err := s.ingest.Ingestion(context.Background(), done.IngestionID)
		if err != nil || p.Failed > 0 {
			s.t.Fatalf("ingestion: %+v, %v", p, err)
		}
		return p.Pending == 0
	})
	return s
}

func (s *service) eventually(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	s.t.Fatalf("it never came to be that %s", what)
}

// request sends body (nil for none) and returns the whole response.
func (s *service) request(method, path, body string, header map[string]string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response, string(text)
}

// get reads JSON into v.
func (s *service) get(path string, v any) {
	s.t.Helper()
	response, text := s.request("GET", path, "", nil)
	if response.StatusCode != 200 {
		s.t.Fatalf("GET %s: %d %s", path, response.StatusCode, text)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		s.t.Fatalf("GET %s: %v in %s", path, err, text)
	}
}

// reading is a stream of events being read.
type reading struct {
	t      *testing.T
	cancel context.CancelFunc
	body   io.Closer
	lines  *bufio.Scanner
	run    string
	after  int64
	beats  int // comments
}

// stream asks a question and reads its events one by one.
func (s *service) stream(body string) *reading {
	s.t.Helper()
	return s.openReading("POST", "/api/v1/chat", body, map[string]string{"Accept": "text/event-stream", "Content-Type": "application/json"})
}

func (s *service) openReading(method, path, body string, header map[string]string) *reading {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := response.Header.Get("Content-Type"); response.StatusCode != 200 || got != "text/event-stream" {
		text, _ := io.ReadAll(response.Body)
		s.t.Fatalf("%s %s: %d %s %s", method, path, response.StatusCode, got, text)
	}
	out := &reading{t: s.t, cancel: cancel, body: response.Body, lines: bufio.NewScanner(response.Body)}
	out.lines.Buffer(nil, 1<<20)
	s.t.Cleanup(out.close)
	return out
}

func (r *reading) close() {
	r.cancel()
	r.body.Close()
}

// next reads one event; ok is false at the end of the stream.
func (r *reading) next() (e sseEvent, ok bool) {
	r.t.Helper()
	for r.lines.Scan() {
		field, value, _ := strings.Cut(r.lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case r.lines.Text() == "":
			if e.Name == "" {
				continue // a comment's blank line
			}
			r.check(e)
			return e, true
		case field == "":
			r.beats++
		case field == "id":
			e.ID = value
		case field == "event":
			e.Name = value
		case field == "data":
			e.Data += value
		}
	}
	return e, false
}

// check holds the ids to rising by one, and keeps the run's.
func (r *reading) check(e sseEvent) {
	r.t.Helper()
	if e.Name == "retrieval" {
		r.run = decoded[answer.Retrieval](r.t, e.Data).RunID
	}
	if e.ID == "" {
		return
	}
	id, err := strconv.ParseInt(e.ID, 10, 64)
	if err != nil || id != r.after+1 {
		r.t.Fatalf("event %s has the id %q after %d", e.Name, e.ID, r.after)
	}
	r.after = id
}

// rest reads to the end.
func (r *reading) rest() (events []sseEvent) {
	r.t.Helper()
	for {
		e, ok := r.next()
		if !ok {
			return events
		}
		events = append(events, e)
	}
}

// until reads to the first event of a name.
func (r *reading) until(name string) sseEvent {
	r.t.Helper()
	for {
		e, ok := r.next()
		if !ok {
			r.t.Fatalf("the stream ended before %s", name)
		}
		if e.Name == name {
			return e
		}
	}
}

func decoded[T any](t *testing.T, data string) (v T) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}
