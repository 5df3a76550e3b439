package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Settings of a collection. Zero values stand for the service's own. They hold for documents worked on from then
// on; Reingest works on all of them again.
type Settings struct {
	ChunkTokens  int    `json:"chunk_tokens,omitempty"`  // target size of a passage
	ChunkMax     int    `json:"chunk_max,omitempty"`     // no passage is larger
	ChunkOverlap int    `json:"chunk_overlap,omitempty"` // repeated between neighbours; below 0 none
	Language     string `json:"language,omitempty"`      // of the word index, such as "english" or "simple"
}

// sizes are the chunk sizes of a collection with these settings.
func (s Settings) sizes(o Options) chunkSizes {
	return chunkSizes{
		target:  cmp.Or(s.ChunkTokens, o.ChunkTokens),
		max:     cmp.Or(s.ChunkMax, o.ChunkMax),
		overlap: max(cmp.Or(s.ChunkOverlap, o.ChunkOverlap), 0),
	}
}

// Configure changes the settings of a collection. An impossible one is an *InvalidError.
func (s *Service) Configure(ctx context.Context, collection string, settings Settings) error {
	if err := settings.sizes(s.options).check(); err != nil {
		return &InvalidError{"settings", "do not fit together: " + err.Error()}
	}
	language := cmp.Or(settings.Language, "english")
	var known bool
	if err := s.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_ts_config WHERE cfgname = $1)", language).Scan(&known); err != nil {
		return fmt.Errorf("configure collection %q: %w", collection, err)
	}
	if !known {
		return &InvalidError{"settings.language", fmt.Sprintf("is %q, which this Postgres has no dictionaries for; simple works for any", language)}
	}
	tag, err := s.pool.Exec(ctx, `UPDATE collections SET chunk_tokens = nullif($2, 0), chunk_max = nullif($3, 0), chunk_overlap = nullif($4, 0), language = $5::regconfig
		WHERE name = $1`, collection, settings.ChunkTokens, settings.ChunkMax, settings.ChunkOverlap, language)
	if err != nil {
		return fmt.Errorf("configure collection %q: %w", collection, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("collection %q: %w", collection, ErrNotFound)
	}
	return nil
}

// Reingest queues every document of a collection that has ended, ready or failed, once more, and returns how many.
// Until each is done, its passages of before stay.
func (s *Service) Reingest(ctx context.Context, collection string) (int, error) {
	var queued []jobArgs
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var id string
		err := tx.QueryRow(ctx, "SELECT id::text FROM collections WHERE name = $1", collection).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("collection %q: %w", collection, ErrNotFound)
		}
		if err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, `UPDATE documents SET version = version + 1, state = 'queued', stage = '', error = '', done = 0, updated_at = now(), queued_at = now()
			WHERE collection_id = $1 AND state IN ('ready', 'failed') AND stage <> $2 RETURNING id::text, version`, id, unpacking)
		if queued, err = pgx.CollectRows(rows, pgx.RowToStructByPos[jobArgs]); err != nil {
			return err
		}
		for _, q := range queued {
			if err := s.enqueue(ctx, tx, q.DocumentID, q.Version); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("ingest collection %q again: %w", collection, err)
	}
	return len(queued), nil
}
