package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// recoverEvery is how often work of dead processes is looked for.
	recoverEvery = 2 * time.Second
	// lostEvery is how often documents without a job are looked for; it reads more rows.
	lostEvery = 30 * time.Second
	// grace is the time a worker has between taking a job and locking its document.
	// A job rescued too early is merely delivered twice.
	grace = "3 seconds"
)

// recoveryLock lets one process recover at a time.
const recoveryLock int64 = 0x6c657373_72616702

// recover gives back to the queue what dead processes held: a job that runs although nobody holds the lock
// of its document. River would wait an hour, because it cannot know. With lost set, documents
// that wait for a job that is gone get a new one too.
func (s *Service) recover(ctx context.Context, lost bool) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", recoveryLock).Scan(&mine); err != nil {
			return fmt.Errorf("recover documents: %w", err)
		}
		if !mine {
			return nil
		}
		if err := s.recoverOrphans(ctx, tx); err != nil {
			return fmt.Errorf("recover documents of a process that died: %w", err)
		}
		if err := s.recoverStages(ctx, tx); err != nil {
			return fmt.Errorf("recover the states of documents that wait: %w", err)
		}
		if !lost {
			return nil
		}
		if err := s.recoverLost(ctx, tx); err != nil {
			return fmt.Errorf("recover documents without a job: %w", err)
		}
		return nil
	})
}

func (s *Service) recoverOrphans(ctx context.Context, tx pgx.Tx) error {
	// scheduled_at = now() puts the job behind those that wait, so that a document that kills
	// the process again and again does not keep the others from being worked on.
	rows, _ := tx.Query(ctx, `
		UPDATE river_job j SET state = 'available', scheduled_at = now()
		WHERE j.kind = $1 AND j.state = 'running' AND j.attempted_at < now() - $2::interval
		  AND NOT `+lockHeld("j.args->>'document_id'")+`
		RETURNING j.args->>'document_id', (j.args->>'version')::int`, jobKind, grace)
	orphans, err := pgx.CollectRows(rows, pgx.RowToStructByPos[jobArgs])
	if err != nil {
		return err
	}
	for _, o := range orphans {
		if _, err := tx.Exec(ctx, requeueSQL, o.DocumentID, o.Version); err != nil {
			return err
		}
		s.log.Info("took a document back from a process that died", "document", o.DocumentID)
	}
	return nil
}

// recoverStages shows documents as queued that wait for another try: a worker that lost the database could not say
// so, and its document would seem to be stuck where it was. A document that is worked on is locked.
func (s *Service) recoverStages(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
		WITH idle AS MATERIALIZED (
			SELECT d.id, d.version FROM documents d WHERE d.state NOT IN ('queued', 'ready', 'failed') AND NOT `+lockHeld("d.id::text")+`
		)
		UPDATE documents d SET state = 'queued', stage = '', done = 0, updated_at = now() FROM idle i
		WHERE d.id = i.id AND d.version = i.version AND d.state NOT IN ('ready', 'failed') AND EXISTS (
			SELECT FROM river_job j WHERE j.kind = $1 AND j.state IN ('available', 'retryable', 'scheduled')
			  AND (j.args->>'document_id')::uuid = d.id AND (j.args->>'version')::int = d.version)`, jobKind)
	return err
}

// lockHeld is the SQL that tells whether somebody holds a document's advisory lock.
func lockHeld(id string) string {
	return `EXISTS (
		SELECT FROM pg_locks l JOIN pg_database b ON b.oid = l.database
		WHERE b.datname = current_database() AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
		  AND ((l.classid::bigint << 32) | l.objid::bigint) = ` + lockKey(id) + `)`
}

func (s *Service) recoverLost(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, `
		SELECT d.id::text, d.version FROM documents d
		WHERE d.state NOT IN ('ready', 'failed') AND NOT EXISTS (
			SELECT FROM river_job j
			WHERE j.kind = $1 AND j.state NOT IN ('completed', 'cancelled', 'discarded')
			  AND (j.args->>'document_id')::uuid = d.id AND (j.args->>'version')::int = d.version)
		FOR UPDATE OF d SKIP LOCKED`, jobKind)
	lost, err := pgx.CollectRows(rows, pgx.RowToStructByPos[jobArgs])
	if err != nil {
		return err
	}
	for _, l := range lost {
		if err := s.enqueue(ctx, tx, l.DocumentID, l.Version); err != nil {
			return err
		}
		s.log.Info("queued a document whose job was gone", "document", l.DocumentID)
	}
	return nil
}

// recoverPeriodically runs until ctx ends. A database that is away is reported once, and looked for on.
func (s *Service) recoverPeriodically(ctx context.Context) {
	tick := time.NewTicker(recoverEvery)
	defer tick.Stop()
	away := false
	for beats := 1; ; beats++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.recover(ctx, beats%int(lostEvery/recoverEvery) == 0)
		if err != nil && !away && ctx.Err() == nil {
			s.log.Warn("recovery must wait", "error", err)
		}
		away = err != nil
	}
}
