// Package server is the HTTP of the service: the JSON API described at
// /openapi.json, its event streams, uploads, metrics and the page.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/jackc/pgx/v5/pgxpool"

	"lessrag/cmd/api/answer"
	"lessrag/decode"
	"lessrag/ingest"
	"lessrag/retrieve"
	"lessrag/web"
)

// Config is what a server serves. Pool, Ingest, Searcher, Engine and Answers
// are needed; zero values of the others mean the defaults below.
type Config struct {
	Pool     *pgxpool.Pool
	Ingest   *ingest.Service
	Searcher *retrieve.Searcher
	Engine   *decode.Engine
	Answers  *answer.Service
	Log      *slog.Logger

	Version    string
	Device     string   // what the decoder runs on, in words
	Embedder   string   // the embedder's name
	Collection string   // used where a request names none
	Examples   []string // questions that the page offers
	AllowURLs  bool     // pages are fetched from the web
	Hosts      []string // names that the service is reached by, beside those of the loopback

	MaxUpload   int64         // bytes of one request's files; 64 MiB
	MaxFiles    int           // of one upload; 1,000
	Heartbeat   time.Duration // silence after which a stream says that it lives; 10 s
	WriteWithin time.Duration // a reader that takes longer for one write is dropped; 30 s
	Linger      time.Duration // how long a resumable run waits for its reader; 15 s
}

// Server is the service's http.Handler. It holds no state but open streams.
type Server struct {
	Config
	router   *chi.Mux
	metrics  *metrics
	audience audience
	http     *http.Server
	stopping atomic.Bool
	quit     chan struct{} // closed by Shutdown: streams of progress end
	once     sync.Once
}

// New builds the server; it starts nothing.
func New(c Config) *Server {
	c.Log = cmp.Or(c.Log, slog.Default())
	c.MaxUpload = cmp.Or(c.MaxUpload, 64<<20)
	c.MaxFiles = cmp.Or(c.MaxFiles, 1000)
	c.Heartbeat = cmp.Or(c.Heartbeat, 10*time.Second)
	c.WriteWithin = cmp.Or(c.WriteWithin, 30*time.Second)
	c.Linger = cmp.Or(c.Linger, 15*time.Second)

	s := &Server{Config: c, router: chi.NewRouter(), quit: make(chan struct{})}
	s.metrics = newMetrics(s)
	c.Answers.Ended = s.metrics.answered
	s.audience.linger = c.Linger
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
		// No WriteTimeout: answers stream for as long as they take. Every
		// write of a stream has a deadline of its own instead.
	}
	s.routes()
	return s
}

func (s *Server) routes() {
	r := s.router
	r.Use(requestID, s.accessLog, s.recoverer, s.guard, securityHeaders, middleware.GetHead, s.refuseWhenStopping, s.multipart)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, &Problem{Status: http.StatusNotFound, Detail: "there is nothing at " + r.URL.Path})
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, &Problem{Status: http.StatusMethodNotAllowed, Detail: r.Method + " is not possible at " + r.URL.Path})
	})

	api := humachi.New(r, openAPI(s.Version))
	s.documents(api)
	s.collections(api)
	s.ingestions(api)
	s.search(api)
	s.chat(api)
	s.compare(api)
	s.runs(api)
	s.status(api)

	r.Method(http.MethodGet, "/metrics", s.metrics.handler())
	for path, file := range web.Files() {
		r.Method(http.MethodGet, path, file)
	}
}

// openAPI is the description's frame: JSON only, strictly read, and no
// documentation page that would load scripts from elsewhere.
func openAPI(version string) huma.Config {
	c := huma.DefaultConfig("Lessrag", cmp.Or(version, "dev"))
	c.Info.Description = "Questions answered from your documents by a local decoder with a cache of fixed size."
	c.Formats = map[string]huma.Format{"application/json": strictJSON, "json": strictJSON}
	c.CreateHooks = nil
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.DocsPath, c.SchemasPath = "", ""
	return c
}

// schemaName tells the document of a passage from a document in a listing.
func schemaName(t reflect.Type, hint string) string {
	if t == reflect.TypeFor[retrieve.Document]() {
		return "PassageDocument"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.router.ServeHTTP(w, r) }

// ErrNotLoopback refuses to serve other machines: there are no API keys, so
// whoever reaches the service owns it.
var ErrNotLoopback = errors.New("the service has no API keys, so it serves this machine only: listen on 127.0.0.1 or ::1")

// Serve answers on l until Shutdown, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		return fmt.Errorf("%s: %w", a, ErrNotLoopback)
	}
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown takes no new work, lets the running answers finish until ctx ends
// and stops those that are left. It returns ctx's error when it had to.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(func() {
		s.stopping.Store(true)
		close(s.quit)
	})
	waited := s.Answers.Wait(ctx)
	if waited != nil {
		s.Answers.CancelAll()
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.http.Shutdown(last); err != nil {
		_ = s.http.Close() // cut what does not end
	}
	return errors.Join(waited, s.Answers.Wait(last))
}
