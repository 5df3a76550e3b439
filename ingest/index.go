package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// The vector index costs more to keep current row by row than to build at the end. So while much more is waiting
// than is there, there is none: searches are exact and slower, and each passage is stored for a fraction. What is
// to be done follows from what the database holds, so that a crash at any point leaves nothing to remember.
const (
	bulkChunks    = 20_000           // waiting passages that are worth it
	bytesPerChunk = 700              // of a document as handed in, roughly
	indexEvery    = 10 * time.Second // how often this is looked at
	indexMemory   = "512MB"          // for building; some 400,000 passages fit
)

// indexLock lets one process look after the index.
const indexLock int64 = 0x6c657373_72616703

const createIndexSQL = `CREATE INDEX CONCURRENTLY chunks_embedding ON chunks USING hnsw (embedding halfvec_cosine_ops) WITH (ef_construction = 200)`

// indexAction is what to do about the vector index.
type indexAction int

const (
	keepIndex indexAction = iota
	dropIndex
	buildIndex
)

// indexState is what the decision is made from.
type indexState struct {
	exists  bool
	valid   bool  // false when a build was cut off
	waiting int64 // passages, estimated, of documents that have not ended
	stored  int64 // passages, estimated
}

// decide is pure. Dropping needs much to come, building needs little: between them nothing changes.
func (s indexState) decide() indexAction {
	bulk := s.waiting >= bulkChunks && s.waiting >= s.stored
	switch {
	case s.exists && (bulk || !s.valid):
		return dropIndex // an invalid one is built anew in the next round
	case !s.exists && s.waiting < bulkChunks/10:
		return buildIndex
	}
	return keepIndex
}

// Index looks after the vector index at once, as a running service does by itself: what a command does before it ends.
func (s *Service) Index(ctx context.Context) error { return s.tendIndex(ctx) }

// tendIndex drops or builds the vector index where that is due. Neither keeps readers or workers waiting.
func (s *Service) tendIndex(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("look after the vector index: %w", err)
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", indexLock).Scan(&mine); err != nil || !mine {
		return err
	}
	defer func() {
		if _, err := conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", indexLock); err != nil {
			conn.Conn().Close(context.WithoutCancel(ctx)) // which frees it too
		}
	}()
	state, err := readIndexState(ctx, conn)
	if err != nil {
		return fmt.Errorf("look at the vector index: %w", err)
	}
	switch state.decide() {
	case dropIndex:
		s.log.Info("the vector index is left out while many passages come in", "waiting", state.waiting, "stored", state.stored)
		_, err = conn.Exec(ctx, "DROP INDEX CONCURRENTLY IF EXISTS chunks_embedding")
	case buildIndex:
		began := time.Now()
		if err = createIndex(ctx, conn); err == nil {
			s.log.Info("the vector index is built", "passages", state.stored, "seconds", time.Since(began).Seconds())
		}
	}
	if err != nil {
		return fmt.Errorf("change the vector index: %w", err)
	}
	return nil
}

// createIndex builds the index with enough memory; a connection's settings end with the session's use.
func createIndex(ctx context.Context, conn *pgxpool.Conn) error {
	if _, err := conn.Exec(ctx, "SET maintenance_work_mem = '"+indexMemory+"'"); err != nil {
		return err
	}
	defer conn.Exec(context.WithoutCancel(ctx), "RESET maintenance_work_mem")
	_, err := conn.Exec(ctx, createIndexSQL)
	return err
}

func readIndexState(ctx context.Context, conn *pgxpool.Conn) (indexState, error) {
	var s indexState
	err := conn.QueryRow(ctx, `SELECT
		EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('chunks_embedding')),
		coalesce((SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('chunks_embedding')), false),
		coalesce((SELECT sum(bytes * (1 - done)) FROM documents WHERE state NOT IN ('ready', 'failed')), 0)::bigint / $1,
		(SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'chunks'::regclass)`, bytesPerChunk).
		Scan(&s.exists, &s.valid, &s.waiting, &s.stored)
	return s, err
}

// tendIndexPeriodically runs until ctx ends.
func (s *Service) tendIndexPeriodically(ctx context.Context) {
	tick := time.NewTicker(indexEvery)
	defer tick.Stop()
	failed := false
	for {
		err := s.tendIndex(ctx)
		if err != nil && !failed && ctx.Err() == nil {
			s.log.Warn("the vector index must wait", "error", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
