package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Submit stores the files and their jobs in one transaction; when it returns, a crash loses nothing.
//
// The collection is created on first use and belongs to the embedder that runs now. Archives are taken apart:
// their files become documents named "archive/path".
// Content that the collection already holds is not taken again: the file is answered as a duplicate of
// the document that holds it, even a failed one (see Retry), and its name is remembered. A known name with
// new content is a new version: its passages replace the old ones in the moment they are ready.
// Bad input is an *InvalidError, another embedder's collection an *EmbedderError; then nothing is stored.
func (s *Service) Submit(ctx context.Context, collection string, files []File) (Submission, error) {
	if err := checkCollection(collection); err != nil {
		return Submission{}, err
	}
	metadata, err := s.checkFiles(files)
	if err != nil {
		return Submission{}, err
	}
	var done Submission
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		b := &batch{service: s, tx: tx}
		var err error
		if b.collection, err = s.openCollection(ctx, tx, collection); err != nil {
			return err
		}
		if err := b.open(ctx); err != nil {
			return err
		}
		for i, f := range files {
			if err := b.take(ctx, f, metadata[i]); err != nil {
				return err
			}
		}
		done = b.Submission
		return b.settle(ctx)
	})
	if err != nil {
		return Submission{}, fmt.Errorf("store %d documents in collection %q: %w", len(files), collection, err)
	}
	return done, nil
}

// checkFiles validates what is handed in; metadata is the JSON of each file's.
func (s *Service) checkFiles(files []File) (metadata [][]byte, err error) {
	if len(files) == 0 {
		return nil, &InvalidError{"documents", "must not be empty"}
	}
	if len(files) > maxFiles {
		return nil, &InvalidError{"documents", fmt.Sprintf("are %d; at most %d are accepted at once", len(files), maxFiles)}
	}
	metadata = make([][]byte, len(files))
	named := make(map[string]int, len(files))
	for i, f := range files {
		if metadata[i], err = checkFile(fmt.Sprintf("documents[%d]", i), f, s.options.MaxBytes); err != nil {
			return nil, err
		}
		if first, twice := named[f.Name]; twice && !bytes.Equal(files[first].Content, f.Content) {
			return nil, &InvalidError{fmt.Sprintf("documents[%d].name", i), fmt.Sprintf("%q is that of documents[%d] too, with other content", f.Name, first)}
		}
		named[f.Name] = i
	}
	return metadata, nil
}

// openCollection finds or creates the collection and locks it, so that submissions to one collection
// follow each other and none can pass the checks of another. Readers and workers are not held up.
func (s *Service) openCollection(ctx context.Context, tx pgx.Tx, name string) (id string, err error) {
	_, err = tx.Exec(ctx, `INSERT INTO collections (name, embedder, dimensions) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`,
		name, s.embedder.Name(), s.embedder.Dim())
	if err != nil {
		return "", err
	}
	var embedder string
	var dimensions int
	err = tx.QueryRow(ctx, `SELECT id::text, embedder, dimensions FROM collections WHERE name = $1 FOR NO KEY UPDATE`, name).
		Scan(&id, &embedder, &dimensions)
	if err != nil {
		return "", err
	}
	if embedder != s.embedder.Name() || dimensions != s.embedder.Dim() {
		return "", &EmbedderError{name, embedder, dimensions, s.embedder.Name(), s.embedder.Dim()}
	}
	return id, nil
}

// enqueue adds the job that works on one version of a document.
func (s *Service) enqueue(ctx context.Context, tx pgx.Tx, documentID string, version int) error {
	if _, err := s.river.InsertTx(ctx, tx, jobArgs{DocumentID: documentID, Version: version}, nil); err != nil {
		return fmt.Errorf("queue document %s: %w", documentID, err)
	}
	return nil
}

// Retry queues a failed document again. It returns ErrNotFound for an unknown one and ErrState unless it failed.
func (s *Service) Retry(ctx context.Context, id string) error {
	if !isUUID(id) {
		return fmt.Errorf("document %q: %w", id, ErrNotFound)
	}
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var state State
		var stage string
		err := tx.QueryRow(ctx, "SELECT state, stage FROM documents WHERE id = $1 FOR UPDATE", id).Scan(&state, &stage)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("document %s: %w", id, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("retry document %s: %w", id, err)
		}
		if state == Failed && stage == unpacking {
			return fmt.Errorf("retry document %s: its content never came in, hand its archive in again: %w", id, ErrState)
		}
		if state != Failed {
			return fmt.Errorf("retry document %s: it is %s, only failed documents can be retried: %w", id, state, ErrState)
		}
		var version int
		err = tx.QueryRow(ctx, `UPDATE documents SET version = version + 1, state = 'queued', stage = '', error = '', done = 0,
			updated_at = now(), queued_at = now() WHERE id = $1 RETURNING version`, id).Scan(&version)
		if err != nil {
			return fmt.Errorf("retry document %s: %w", id, err)
		}
		return s.enqueue(ctx, tx, id, version)
	})
}
