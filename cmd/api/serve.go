package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"

	"lessrag/cmd/api/server"
	"lessrag/decode"
	"lessrag/lesskernels/cpu"
)

type serveCmd struct {
	Addr       string   `help:"Where to listen; this machine only." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	Hosts      []string `help:"Names that a reverse proxy in front is reached by." placeholder:"NAME"`
	Collection string   `help:"The collection of requests that name none." default:"default"`
	AllowURLs  bool     `name:"allow-urls" help:"Take addresses of pages (POST /api/v1/documents/urls) and fetch them from the web, from public addresses only."`
	Questions  string   `help:"A file of questions, one a line, that the page offers on a first visit." placeholder:"FILE" type:"existingfile"`
	answerCacheFlags
	CacheMemory string `help:"Memory of all caches together, on each card if there are several; divided by the bytes of one sequence it gives the answers that run at a time." default:"512MiB" placeholder:"BYTES"`
	Staging     int    `help:"Tokens of a prompt that snapkv and vote read at once; a longer prompt is read in chunks." default:"4096" placeholder:"TOKENS"`
	Queue       int    `help:"Answers that may wait for a slot; more are told to come back." default:"64"`
	answerFlags
	blendFlags
}

// Run serves until it is interrupted, then lets running answers finish.
func (c *serveCmd) Run(ctx context.Context, g *globals) (err error) {
	memory, err := parseBytes("--cache-memory", c.CacheMemory)
	if err != nil {
		return err
	}
	if c.Queue < 1 {
		return usageError{errors.New("--queue: at least one answer must be able to wait")}
	}
	spec, _, err := c.parse()
	if err != nil {
		return err
	}
	questions, err := readQuestions(c.Questions)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return usageError{fmt.Errorf("--addr %s: %w", c.Addr, err)}
	}
	defer listener.Close()
	if a, ok := listener.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		return usageError{fmt.Errorf("--addr %s: %w", c.Addr, server.ErrNotLoopback)}
	}

	store, err := c.store(g, spec)
	if err != nil {
		return err
	}
	s := &stack{globals: g, address: listener.Addr().String()}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openAnswers(ctx, decode.Options{CacheMemory: memory, MaxQueue: c.Queue, StagingTokens: c.Staging, Passages: store}, c.defaults(c.Collection), c.answerCacheFlags); err != nil {
		return err
	}
	s.answers.BlendMemory = c.BlendMemory
	if s.answers.BlendShare, err = c.share(s.engine.Info()); err != nil {
		return err
	}
	spec, budget, err := c.suited(s.engine.Info()).parse()
	if err != nil {
		return err
	}
	if plan, err := s.engine.Plan(spec, budget); err != nil {
		return usageError{err}
	} else if plan.Bytes > memory {
		return usageError{fmt.Errorf("--cache-memory %s does not hold one answer: cache %s takes %s", c.CacheMemory, spec, bytesText(plan.Bytes))}
	}
	if err := s.answers.Check(); err != nil {
		return fmt.Errorf("the defaults refuse every question: %w", err)
	}
	if err := s.openIngestion(ctx); err != nil {
		return err
	}
	device := fmt.Sprintf("CPU, %s kernels, %d threads", cpu.Best(), threads(g.Threads))
	if g.Device.cuda {
		device = cardNames(s.engine.Devices())
	}
	srv := server.New(server.Config{
		Pool: s.pool, Ingest: s.ingestion, Searcher: s.searcher, Engine: s.engine, Answers: s.answers, Log: slog.Default(),
		Version: version(), Device: device, Embedder: s.embedder.Name(), Collection: c.Collection, Examples: questions, Hosts: c.Hosts, AllowURLs: c.AllowURLs,
	})
	fmt.Printf("%s on %s\nLessrag is ready: http://%s/   (Ctrl-C stops it)\n", s.engine.Info().Name, device, listener.Addr())
	return serveUntil(ctx, srv, listener)
}

// serveUntil serves until ctx ends or the listener fails.
func serveUntil(ctx context.Context, srv *server.Server, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(os.Stderr, "stopping: running answers may finish")
	stopping, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if err := srv.Shutdown(stopping); err != nil {
		return fmt.Errorf("stopping: answers were cut off after %v: %w", stopGrace, err)
	}
	return <-failed
}

// readQuestions reads one question a line; blank lines are passed over.
func readQuestions(path string) ([]string, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var questions []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if q := strings.TrimSpace(lines.Text()); q != "" {
			questions = append(questions, q)
		}
	}
	return questions, lines.Err()
}

func cardNames(devices []decode.DeviceStats) string {
	var names []string
	for _, d := range devices {
		names = append(names, d.Device)
	}
	return strings.Join(names, ", ")
}

func threads(flag int) int {
	if flag > 0 {
		return flag
	}
	return runtime.GOMAXPROCS(0)
}
