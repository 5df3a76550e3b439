// Package ingest turns bytes into searchable passages: extract, chunk, embed, store.
//
// A document is a state machine kept in Postgres and driven by durable jobs, so a crash loses nothing:
// Submit stores the content and its job in one transaction; a worker of any process that shares the
// database extracts the text, cuts it into chunks, embeds them into a staging table, and makes all of
// them visible, in place of the version before, in one transaction.
package ingest

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
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
	Workers      int          // documents worked on at once by this process; 0 means 1
	MaxBytes     int64        // largest document accepted; 0 means 64 MiB
	ChunkTokens  int          // target size of a passage; 0 means 200
	ChunkMax     int          // no passage is larger; 0 means 256
	ChunkOverlap int          // repeated between neighbours of one section; 0 means 30, below 0 none
	BatchSize    int          // texts handed to the embedder at once; 0 means 32
	Logger       *slog.Logger // nil means slog.Default()
}

// Service is one process's share of the ingestion.
type Service struct {
	pool     *pgxpool.Pool
	embedder Embedder
	tokens   TokenCounter
	options  Options
}
