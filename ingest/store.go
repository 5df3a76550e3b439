package ingest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	defaultPage = 100
	maxPage     = 1000
)

// documentColumns are in the order of scanDocument; d is documents and c its collection.
const documentColumns = `d.id::text, c.name, d.name, d.source, d.media_type, d.metadata, d.state, d.stage, d.error,
	d.chunks, d.bytes, d.done, d.created_at, d.updated_at,
	ARRAY(SELECT n.name FROM document_names n WHERE n.document_id = d.id AND n.name <> d.name ORDER BY n.name)`

func scanDocument(row pgx.CollectableRow) (Document, error) {
	var d Document
	err := row.Scan(&d.ID, &d.Collection, &d.Name, &d.Source, &d.MediaType, &d.Metadata, &d.State, &d.Stage, &d.Error,
		&d.Chunks, &d.Bytes, &d.Done, &d.CreatedAt, &d.UpdatedAt, &d.Also)
	return d, err
}

// isUUID spares the database ids that cannot be there; they are unknown, not malformed.
func isUUID(id string) bool {
	var u pgtype.UUID
	return u.Scan(id) == nil
}

// Document returns one document, or ErrNotFound.
func (s *Service) Document(ctx context.Context, id string) (Document, error) {
	if !isUUID(id) {
		return Document{}, fmt.Errorf("document %q: %w", id, ErrNotFound)
	}
	rows, _ := s.pool.Query(ctx, `SELECT `+documentColumns+` FROM documents d JOIN collections c ON c.id = d.collection_id WHERE d.id = $1`, id)
	d, err := pgx.CollectExactlyOneRow(rows, scanDocument)
	if errors.Is(err, pgx.ErrNoRows) {
		return Document{}, fmt.Errorf("document %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Document{}, fmt.Errorf("read document %s: %w", id, err)
	}
	return d, nil
}

// Text returns the extracted text of the visible version, into which the offsets of its passages point.
// A document without one answers ErrState.
func (s *Service) Text(ctx context.Context, id string) (string, error) {
	if !isUUID(id) {
		return "", fmt.Errorf("document %q: %w", id, ErrNotFound)
	}
	var text string
	var state State
	err := s.pool.QueryRow(ctx, `SELECT b.text, d.state FROM documents d JOIN document_bodies b ON b.document_id = d.id WHERE d.id = $1`, id).
		Scan(&text, &state)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("document %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("read the text of document %s: %w", id, err)
	}
	if text == "" {
		return "", fmt.Errorf("document %s is %s and has no text yet: %w", id, state, ErrState)
	}
	return text, nil
}

// Documents lists documents in the order of their first submission, one page at a time.
// next is the cursor of the following page, "" after the last.
func (s *Service) Documents(ctx context.Context, f Filter) (documents []Document, next string, err error) {
	if f.State != "" && !f.State.Valid() {
		return nil, "", &InvalidError{"state", fmt.Sprintf("is %q; it must be queued, extracting, chunking, embedding, ready or failed", f.State)}
	}
	if f.Limit < 0 || f.Limit > maxPage {
		return nil, "", &InvalidError{"limit", fmt.Sprintf("is %d; it must be between 1 and %d", f.Limit, maxPage)}
	}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if f.Collection != "" {
		if err := checkCollection(f.Collection); err != nil {
			return nil, "", err
		}
	}
	after, err := parseCursor(f.Cursor)
	if err != nil {
		return nil, "", err
	}
	// One row more than asked for tells whether there is a next page.
	rows, _ := s.pool.Query(ctx, `SELECT `+documentColumns+` FROM documents d JOIN collections c ON c.id = d.collection_id
		WHERE ($1 = '' OR c.name = $1) AND ($2 = '' OR d.state = $2)
		  AND ($3::timestamptz IS NULL OR (d.created_at, d.id) > ($3, $4::uuid))
		ORDER BY d.created_at, d.id LIMIT $5`,
		f.Collection, string(f.State), after.time, after.id, f.Limit+1)
	documents, err = pgx.CollectRows(rows, scanDocument)
	if err != nil {
		return nil, "", fmt.Errorf("list documents: %w", err)
	}
	if len(documents) > f.Limit {
		documents = documents[:f.Limit]
		last := documents[f.Limit-1]
		next = cursor{time: &last.CreatedAt, id: &last.ID}.String()
	}
	return documents, next, nil
}

// cursor is the place of a document in the order of listings; the zero value is before the first.
type cursor struct {
	time *time.Time
	id   *string
}

func (c cursor) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(c.time.UnixMicro(), 10) + " " + *c.id))
}

func parseCursor(s string) (cursor, error) {
	if s == "" {
		return cursor{}, nil
	}
	invalid := &InvalidError{"cursor", "was not given out by a listing"}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return cursor{}, invalid
	}
	micros, id, _ := strings.Cut(string(raw), " ")
	n, err := strconv.ParseInt(micros, 10, 64)
	// Postgres keeps years up to 294276; anything of ours is of this age.
	if err != nil || n < 0 || n > time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() || !isUUID(id) {
		return cursor{}, invalid
	}
	t := time.UnixMicro(n)
	return cursor{time: &t, id: &id}, nil
}

// Collections lists all collections by name.
func (s *Service) Collections(ctx context.Context) ([]Collection, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT c.id::text, c.name, c.embedder, c.dimensions, count(d.id), coalesce(sum(d.chunks), 0), c.created_at,
		       coalesce(c.chunk_tokens, 0), coalesce(c.chunk_max, 0), coalesce(c.chunk_overlap, 0), c.language::text
		FROM collections c LEFT JOIN documents d ON d.collection_id = c.id
		GROUP BY c.id ORDER BY c.name`)
	collections, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Collection, error) {
		var c Collection
		err := row.Scan(&c.ID, &c.Name, &c.Embedder, &c.Dimensions, &c.Documents, &c.Chunks, &c.CreatedAt,
			&c.Settings.ChunkTokens, &c.Settings.ChunkMax, &c.Settings.ChunkOverlap, &c.Settings.Language)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("list collections: %w", err)
	}
	return collections, nil
}
