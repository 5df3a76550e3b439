package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Submit stores the files and their jobs in one transaction; when it returns, a crash loses nothing.
//
// The collection is created on first use and belongs to the embedder that runs now.
// Content that the collection already holds is not taken again: the file is answered as a duplicate of
// the document that holds it, even a failed one (see Retry). A known name with new content is a new
// version: its passages replace the old ones in the moment they are ready.
// Bad input is an *InvalidError, another embedder's collection an *EmbedderError; then nothing is stored.
func (s *Service) Submit(ctx context.Context, collection string, files []File) (Submission, error) {
	if err := checkCollection(collection); err != nil {
		return Submission{}, err
	}
	if len(files) == 0 {
		return Submission{}, &InvalidError{"documents", "must not be empty"}
	}
	if len(files) > maxFiles {
		return Submission{}, &InvalidError{"documents", fmt.Sprintf("are %d; at most %d are accepted at once", len(files), maxFiles)}
	}
	metadata := make([][]byte, len(files))
	named := make(map[string]int, len(files))
	for i, f := range files {
		var err error
		if metadata[i], err = checkFile(fmt.Sprintf("documents[%d]", i), f, s.options.MaxBytes); err != nil {
			return Submission{}, err
		}
		if first, twice := named[f.Name]; twice && !bytes.Equal(files[first].Content, f.Content) {
			return Submission{}, &InvalidError{fmt.Sprintf("documents[%d].name", i), fmt.Sprintf("%q is that of documents[%d] too, with other content", f.Name, first)}
		}
		named[f.Name] = i
	}

	var submission Submission
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		collectionID, err := s.openCollection(ctx, tx, collection)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, "INSERT INTO ingestions (collection_id) VALUES ($1) RETURNING id::text", collectionID).Scan(&submission.IngestionID)
		if err != nil {
			return err
		}
		submission.Documents = make([]Submitted, len(files))
		for i, f := range files {
			d, err := s.submitFile(ctx, tx, collectionID, f, metadata[i])
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO ingestion_documents (ingestion_id, document_id, duplicate) VALUES ($1, $2, $3)
				ON CONFLICT DO NOTHING`, submission.IngestionID, d.ID, d.Duplicate)
			if err != nil {
				return err
			}
			submission.Documents[i] = d
		}
		return nil
	})
	if err != nil {
		return Submission{}, fmt.Errorf("store %d documents in collection %q: %w", len(files), collection, err)
	}
	return submission, nil
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

// submitFile decides what one file is: a duplicate, a new version, or a new document.
func (s *Service) submitFile(ctx context.Context, tx pgx.Tx, collectionID string, f File, metadata []byte) (Submitted, error) {
	hash := sha256.Sum256(f.Content)
	d := Submitted{Name: f.Name, State: Queued}

	err := tx.QueryRow(ctx, `SELECT id::text, name, state FROM documents WHERE collection_id = $1 AND hash = $2`, collectionID, hash[:]).
		Scan(&d.ID, &d.Name, &d.State)
	if err == nil {
		d.Duplicate = true
		if d.Name == f.Name { // the same document: what is said about it may have changed
			_, err = tx.Exec(ctx, `UPDATE documents SET source = $2, metadata = $3 WHERE id = $1 AND (source, metadata) IS DISTINCT FROM ($2, $3::jsonb)`,
				d.ID, f.Source, metadata)
		}
		return d, err
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return d, err
	}

	var version int
	err = tx.QueryRow(ctx, `
		INSERT INTO documents (collection_id, name, source, media_type, metadata, hash, bytes)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (collection_id, name) DO UPDATE SET
			source = excluded.source, media_type = excluded.media_type, metadata = excluded.metadata,
			hash = excluded.hash, bytes = excluded.bytes, version = documents.version + 1,
			state = 'queued', stage = '', error = '', done = 0, updated_at = now(), queued_at = now()
		RETURNING id::text, version`,
		collectionID, f.Name, f.Source, f.MediaType, metadata, hash[:], len(f.Content)).Scan(&d.ID, &version)
	if err != nil {
		return d, err
	}
	content := f.Content
	if content == nil {
		content = []byte{}
	}
	_, err = tx.Exec(ctx, `INSERT INTO document_bodies (document_id, content) VALUES ($1, $2)
		ON CONFLICT (document_id) DO UPDATE SET content = excluded.content`, d.ID, content)
	if err != nil {
		return d, err
	}
	return d, s.enqueue(ctx, tx, d.ID, version)
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
		err := tx.QueryRow(ctx, "SELECT state FROM documents WHERE id = $1 FOR UPDATE", id).Scan(&state)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("document %s: %w", id, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("retry document %s: %w", id, err)
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

// Delete removes a document with its passages, text and content. Work on it ends by itself.
func (s *Service) Delete(ctx context.Context, id string) error {
	if !isUUID(id) {
		return fmt.Errorf("document %q: %w", id, ErrNotFound)
	}
	tag, err := s.pool.Exec(ctx, "DELETE FROM documents WHERE id = $1", id)
	if err != nil {
		return fmt.Errorf("delete document %s: %w", id, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("document %s: %w", id, ErrNotFound)
	}
	return nil
}

// DeleteCollection removes a collection with all its documents.
func (s *Service) DeleteCollection(ctx context.Context, name string) error {
	if err := checkCollection(name); err != nil {
		return err
	}
	tag, err := s.pool.Exec(ctx, "DELETE FROM collections WHERE name = $1", name)
	if err != nil {
		return fmt.Errorf("delete collection %q: %w", name, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("collection %q: %w", name, ErrNotFound)
	}
	return nil
}
