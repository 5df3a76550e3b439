package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"lessrag/cmd/api/answer"
	"lessrag/cmd/api/postgres"
	"lessrag/cmd/api/remote"
	"lessrag/decode"
	"lessrag/decode/embed"
	"lessrag/decode/gguf"
	"lessrag/decode/tokenizer"
	"lessrag/ingest"
	"lessrag/lesskernels/cpu"
	"lessrag/migrations"
	"lessrag/retrieve"
)

// stopGrace is how long a stop waits for jobs in hand; what is left is taken
// up by the next process.
const stopGrace = 30 * time.Second

// stack is what a command has opened, in order; each command opens what it
// needs and closes all of it. A part that is open already is not opened again.
type stack struct {
	*globals
	address   string        // where the server of --data listens; "" in every other command, which runs on one device
	pool      *pgxpool.Pool // of a migrated Postgres
	embedder  *embed.Model
	ingestion *ingest.Service
	engine    *decode.Engine
	searcher  *retrieve.Searcher
	answers   *answer.Service

	closers []func() error
}

func (s *stack) onClose(f func() error) { s.closers = append(s.closers, f) }

// close closes everything, last opened first. It must work after the
// command's context was cancelled, so it takes none.
func (s *stack) close() error {
	var errs []error
	for _, f := range slices.Backward(s.closers) {
		errs = append(errs, f())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// openDatabase starts or joins the private cluster of --data, or connects to
// --database-url, and migrates it.
func (s *stack) openDatabase(ctx context.Context) error {
	if s.pool != nil {
		return nil
	}
	url := s.DatabaseURL
	if url == "" {
		cluster, err := postgres.Start(ctx, postgres.Options{
			Data: s.Data, Binaries: filepath.Join(s.assets(), postgresHome), Serve: s.address != "", Address: s.address,
		})
		if err != nil {
			return fmt.Errorf("starting Postgres: %w", err)
		}
		s.onClose(func() error { return cluster.Stop(context.Background()) })
		url = cluster.URL()
	}
	pool, err := postgres.Pool(ctx, url)
	if err != nil {
		return fmt.Errorf("connecting to Postgres: %w", err)
	}
	s.onClose(func() error { pool.Close(); return nil })
	if err := migrations.Up(ctx, pool); err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	s.pool = pool
	return nil
}

// openEmbedder loads the embedding model.
func (s *stack) openEmbedder() error {
	if s.embedder != nil {
		return nil
	}
	dir, err := s.embedderDir()
	if err != nil {
		return err
	}
	s.embedder, err = embed.Open(dir, s.newThreads())
	return err
}

// newThreads returns threads that live as long as the stack.
func (s *stack) newThreads() *cpu.Pool {
	threads := cpu.NewPool(s.Threads)
	s.onClose(func() error { threads.Close(); return nil })
	return threads
}

// openTokens reads the reader's tokenizer alone: ingestion counts tokens with
// it and needs no weights.
func (s *stack) openTokens() (*tokenizer.Tokenizer, error) {
	if s.engine != nil {
		return s.engine.Tokenizer(), nil
	}
	path, err := s.readerPath()
	if err != nil {
		return nil, err
	}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return tokenizer.FromGGUF(f)
}

// openIngestion starts the workers of this process; others on the same
// database share the work.
func (s *stack) openIngestion(ctx context.Context) error {
	tokens, err := s.openTokens()
	if err != nil {
		return err
	}
	if err := s.openSearch(ctx); err != nil {
		return err
	}
	s.ingestion, err = ingest.New(s.pool, s.embedder, tokens, ingest.Options{})
	if err != nil {
		return err
	}
	if err := s.ingestion.Start(ctx); err != nil {
		return fmt.Errorf("starting ingestion: %w", err)
	}
	s.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
		defer cancel()
		return s.ingestion.Stop(ctx)
	})
	return nil
}

// openSearch makes passages findable.
func (s *stack) openSearch(ctx context.Context) error {
	if s.searcher != nil {
		return nil
	}
	if err := s.openEmbedder(); err != nil {
		return err
	}
	reranker, err := s.openReranker()
	if err != nil {
		return err
	}
	if err := s.openDatabase(ctx); err != nil {
		return err
	}
	s.searcher = retrieve.New(s.pool, s.embedder, reranker)
	return nil
}

// openReranker loads the second embedder or the cross-encoder of --reranker, which has no
// way of pooling; nil without one.
func (s *stack) openReranker() (retrieve.Reranker, error) {
	if s.Reranker == "" {
		return nil, nil
	}
	dir, err := s.existing("--reranker", s.Reranker, "")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "1_Pooling")); err == nil {
		return embed.OpenRescorer(dir, s.newThreads())
	}
	return embed.OpenReranker(dir, s.newThreads())
}

// openEngine loads the reader.
func (s *stack) openEngine(o decode.Options) error {
	path, err := s.readerPath()
	if err != nil {
		return err
	}
	o.Threads, o.Maps = s.Threads, s.Maps
	cards := 1
	if s.address != "" {
		cards = math.MaxInt
	}
	if o.Devices, err = s.Device.open(cards); err != nil {
		return err
	}
	if s.engine, err = decode.Open(path, o); err != nil {
		return err
	}
	s.onClose(func() error { s.engine.Close(); return nil })
	return nil
}

// openAnswers opens all that a question needs, under the cache that suits the reader.
func (s *stack) openAnswers(ctx context.Context, o decode.Options, d answer.Defaults, c answerCacheFlags) error {
	far, err := remote.FromEnvironment(os.Getenv)
	if err != nil {
		return usageError{err}
	}
	if err := s.openEngine(o); err != nil {
		return err
	}
	if err := s.openSearch(ctx); err != nil {
		return err
	}
	c = c.suited(s.engine.Info())
	d.Cache, d.Budget = c.Cache, c.bounded()
	s.answers = &answer.Service{Searcher: s.searcher, Engine: s.engine, Pool: s.pool, Defaults: d, Remote: far, Log: slog.Default()}
	return nil
}
