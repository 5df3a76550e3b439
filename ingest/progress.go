package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// rateWindow is how far back finished documents tell the present rate of work.
const rateWindow = "10 minutes"

// Ingestion returns how far a submission has come, or ErrNotFound.
func (s *Service) Ingestion(ctx context.Context, id string) (Progress, error) {
	if !isUUID(id) {
		return Progress{}, fmt.Errorf("ingestion %q: %w", id, ErrNotFound)
	}
	var exists bool
	if err := s.pool.QueryRow(ctx, "SELECT true FROM ingestions WHERE id = $1", id).Scan(&exists); errors.Is(err, pgx.ErrNoRows) {
		return Progress{}, fmt.Errorf("ingestion %s: %w", id, ErrNotFound)
	} else if err != nil {
		return Progress{}, fmt.Errorf("read ingestion %s: %w", id, err)
	}
	rows, _ := s.pool.Query(ctx, `SELECT `+documentColumns+` FROM ingestion_documents i
		JOIN documents d ON d.id = i.document_id JOIN collections c ON c.id = d.collection_id
		WHERE i.ingestion_id = $1 ORDER BY d.created_at, d.id`, id)
	documents, err := pgx.CollectRows(rows, scanDocument)
	if err != nil {
		return Progress{}, fmt.Errorf("read ingestion %s: %w", id, err)
	}
	p := Progress{ID: id, Total: len(documents), Documents: documents}
	for _, d := range documents {
		switch d.State {
		case Ready:
			p.Ready++
		case Failed:
			p.Failed++
		default:
			p.Pending++
		}
	}
	if p.Ahead, p.ETA, err = s.outlook(ctx, id, p.Pending); err != nil {
		return Progress{}, fmt.Errorf("estimate ingestion %s: %w", id, err)
	}
	return p, nil
}

// outlook tells how many documents of others come before the first that is pending, and how long all of it will take:
// the bytes that must still be worked on, those of others queued earlier included, divided by the bytes per second of
// the last minutes. Without such a rate, or while a page must be fetched whose size nobody knows, it tells no time.
func (s *Service) outlook(ctx context.Context, id string, pending int) (ahead int, eta *time.Duration, err error) {
	if pending == 0 {
		return 0, new(time.Duration), nil
	}
	var left, worked, seconds float64
	var unknown bool
	err = s.pool.QueryRow(ctx, `
		WITH mine AS (
			SELECT min(d.queued_at) AS first, max(d.queued_at) AS last FROM ingestion_documents i JOIN documents d ON d.id = i.document_id
			WHERE i.ingestion_id = $1 AND d.state NOT IN ('ready', 'failed')
		), pending AS (
			SELECT sum(bytes * (1 - done)) AS left_bytes, sum(bytes * done) AS worked, min(started_at) FILTER (WHERE state <> 'queued') AS since,
				bool_or(address <> '') AS unknown, count(*) FILTER (WHERE queued_at < mine.first) AS ahead
			FROM documents, mine WHERE state NOT IN ('ready', 'failed') AND queued_at <= mine.last
		), finished AS (
			SELECT sum(bytes) AS worked, min(started_at) AS since FROM documents
			WHERE state = 'ready' AND finished_at > now() - $2::interval
		)
		SELECT coalesce(p.left_bytes, 0), coalesce(p.worked, 0) + coalesce(f.worked, 0),
		       coalesce(extract(epoch FROM now() - least(p.since, f.since)), 0), coalesce(p.unknown, false), p.ahead
		FROM pending p, finished f`, id, rateWindow).Scan(&left, &worked, &seconds, &unknown, &ahead)
	if err != nil || unknown {
		return ahead, nil, err
	}
	return ahead, estimate(left, worked, seconds), nil
}

// estimate extrapolates; nil means that too little is known.
func estimate(left, worked, seconds float64) *time.Duration {
	if !(worked > 0) || !(seconds > 0) {
		return nil
	}
	// A year stands for "very long" and keeps the duration far from overflow.
	eta := time.Duration(min(left/worked*seconds, 365*24*3600) * float64(time.Second))
	return &eta
}
