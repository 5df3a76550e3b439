// Package ingest turns bytes into searchable passages: extract, chunk, embed, store.
//
// A document is a state machine kept in Postgres and driven by durable jobs, so a crash loses nothing:
// Submit stores the content and its job in one transaction; a worker of any process that shares the
// database extracts the text, cuts it into chunks, embeds them, and makes all of
// them visible, in place of the version before, in one transaction.
package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"lessrag/ingest/fetch"
)

// Embedder turns texts into unit vectors of Dim values, in order. Name identifies the model.
type Embedder interface {
	Embed(ctx context.Context, texts []string) ([][]float32, error)
	Dim() int
	Name() string
}

// TokenCounter counts the decoder's tokens of a text.
type TokenCounter interface {
	Count(text string) int
}

// Options bound the work. The zero value is a sensible service.
type Options struct {
	Workers      int          // documents worked on at once by this process; 0 means 2, so that one is embedded while another is read or stored
	MaxBytes     int64        // largest document accepted; 0 means 64 MiB
	ChunkTokens  int          // target size of a passage; 0 means 200
	ChunkMax     int          // no passage is larger; 0 means 256
	ChunkOverlap int          // repeated between neighbours of one section; 0 means 30, below 0 none
	BatchSize    int          // texts handed to the embedder at once; 0 means 32
	Fetcher      Fetcher      // gets the pages of SubmitURLs; nil means a client for public addresses only
	Logger       *slog.Logger // nil means slog.Default()
}

func (o Options) withDefaults() Options {
	o.Workers = cmp.Or(o.Workers, 2)
	o.MaxBytes = cmp.Or(o.MaxBytes, 64<<20)
	o.ChunkTokens = cmp.Or(o.ChunkTokens, 200)
	o.ChunkMax = cmp.Or(o.ChunkMax, 256)
	o.ChunkOverlap = max(cmp.Or(o.ChunkOverlap, 30), 0)
	o.BatchSize = cmp.Or(o.BatchSize, 32)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	return o
}

func (o Options) check() error {
	switch {
	case o.Workers < 1:
		return fmt.Errorf("ingest: %d workers: at least 1 is needed", o.Workers)
	case o.MaxBytes < 1:
		return fmt.Errorf("ingest: documents of at most %d bytes: at least 1 is needed", o.MaxBytes)
	case o.BatchSize < 1:
		return fmt.Errorf("ingest: batches of %d texts: at least 1 is needed", o.BatchSize)
	}
	return o.sizes().check()
}

func (o Options) sizes() chunkSizes {
	return chunkSizes{target: o.ChunkTokens, max: o.ChunkMax, overlap: o.ChunkOverlap}
}

// Service is one process's share of the ingestion. Its methods may be called at once.
type Service struct {
	pool     *pgxpool.Pool
	embedder Embedder
	tokens   TokenCounter
	fetcher  Fetcher
	options  Options
	log      *slog.Logger
	river    *river.Client[pgx.Tx]

	reading   chan struct{} // holds one token: the right to extract and cut, which bounds memory whatever Workers is
	embedding meter

	mu       sync.Mutex
	recovery context.CancelFunc // ends the recovery loop; nil unless started
	looping  sync.WaitGroup
}

// New checks that the database is migrated and stores vectors of the embedder's dimension.
// The service accepts documents at once and works on them after Start.
func New(pool *pgxpool.Pool, e Embedder, t TokenCounter, o Options) (*Service, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := checkDimensions(pool, e); err != nil {
		return nil, err
	}
	if o.Fetcher == nil {
		o.Fetcher = fetch.New(o.MaxBytes)
	}
	s := &Service{pool: pool, embedder: e, tokens: t, fetcher: o.Fetcher, options: o, log: o.Logger, reading: make(chan struct{}, 1)}
	client, err := newClient(s)
	if err != nil {
		return nil, err
	}
	s.river = client
	return s, nil
}

func newClient(s *Service) (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{service: s})
	client, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{
		Logger:      s.log,
		Queues:      map[string]river.QueueConfig{queue: {MaxWorkers: s.options.Workers}},
		Workers:     workers,
		JobTimeout:  -1, // a book takes as long as it takes; dead workers are told by their lock, not by the clock
		MaxAttempts: maxAttempts,
		// The default of 100 ms would be the price of every small document.
		FetchCooldown: 5 * time.Millisecond,
	})
	if err != nil {
		return nil, fmt.Errorf("ingest: set up the job queue: %w", err)
	}
	return client, nil
}

// Embedding is how long this process has been in the embedder; two workers at once count once.
func (s *Service) Embedding() time.Duration { return s.embedding.time() }

// checkDimensions compares the embedder with the column that stores its vectors.
func checkDimensions(pool *pgxpool.Pool, e Embedder) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var dimensions int
	err := pool.QueryRow(ctx, `SELECT atttypmod FROM pg_attribute
		WHERE attrelid = to_regclass('chunks') AND attname = 'embedding'`).Scan(&dimensions)
	if errors.Is(err, pgx.ErrNoRows) {
		return errors.New("ingest: the database has no table chunks: run the migrations first")
	}
	if err != nil {
		return fmt.Errorf("ingest: read the dimension of stored vectors: %w", err)
	}
	if dimensions != e.Dim() {
		return fmt.Errorf("ingest: the database stores vectors of %d dimensions, %s makes %d: use an embedder of %d dimensions",
			dimensions, e.Name(), e.Dim(), dimensions)
	}
	return nil
}

// Start works on queued documents until Stop. Work that a dead process left behind is taken up.
func (s *Service) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recovery != nil {
		return errors.New("ingest: already started")
	}
	if err := s.recover(ctx, true); err != nil {
		return err
	}
	// The workers outlive the context of the caller: Stop ends them.
	if err := s.river.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("ingest: start the workers: %w", err)
	}
	loop, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.recovery = cancel
	s.looping.Go(func() { s.recoverPeriodically(loop) })
	s.looping.Go(func() { s.tendIndexPeriodically(loop) })
	return nil
}

// Stop takes no new work, hands running documents back to the queue and returns when all is quiet.
func (s *Service) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recovery == nil {
		return nil
	}
	s.recovery()
	s.looping.Wait()
	s.recovery = nil
	if err := s.river.StopAndCancel(ctx); err != nil {
		return fmt.Errorf("ingest: stop the workers: %w", err)
	}
	return nil
}
