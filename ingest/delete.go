package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

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

// DeleteNames removes names from a collection, and with its last name a document: what a mirror does with files
// that are gone. Unknown names are passed over. It returns how many names there were.
func (s *Service) DeleteNames(ctx context.Context, collection string, names []string) (deleted int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		b := &batch{service: s, tx: tx}
		err := tx.QueryRow(ctx, `SELECT id::text FROM collections WHERE name = $1 FOR NO KEY UPDATE`, collection).Scan(&b.collection)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, `DELETE FROM document_names WHERE collection_id = $1 AND name = ANY($2) RETURNING document_id::text`, b.collection, names)
		if b.touched, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		deleted = len(b.touched)
		return b.settle(ctx)
	})
	if err != nil {
		return 0, fmt.Errorf("delete %d names of collection %q: %w", len(names), collection, err)
	}
	return deleted, nil
}

// Names lists the names of a collection that begin with prefix, in order.
func (s *Service) Names(ctx context.Context, collection, prefix string) ([]string, error) {
	rows, _ := s.pool.Query(ctx, `SELECT n.name FROM document_names n JOIN collections c ON c.id = n.collection_id
		WHERE c.name = $1 AND starts_with(n.name, $2) ORDER BY n.name`, collection, prefix)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the names of collection %q: %w", collection, err)
	}
	return names, nil
}
