package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"lessrag/ingest/extract"
	"lessrag/ingest/fetch"
)

// fetching is the stage, of the state extracting, in which the content of a page comes in.
const fetching State = "fetching"

// fetchAttempts is how often a page is asked for whose server is away or asks for patience.
const fetchAttempts = 3

// Fetcher gets pages from the web. What it refuses or does not find, asking again does not mend; see fetch.Temporary.
type Fetcher interface {
	Get(ctx context.Context, address string) (fetch.Page, error)
}

// SubmitURLs stores addresses as documents, which a worker fetches: a page's name is its address. One that is known
// already is fetched again; its passages stay until those of the new content are ready, and nothing is embedded
// where the content is the same. Bad input is an *InvalidError; then nothing is stored.
func (s *Service) SubmitURLs(ctx context.Context, collection string, addresses []string) (Submission, error) {
	if err := checkCollection(collection); err != nil {
		return Submission{}, err
	}
	if err := checkAddresses(addresses); err != nil {
		return Submission{}, err
	}
	var done Submission
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		b := &batch{service: s, tx: tx}
		var err error
		if b.collection, err = s.openCollection(ctx, tx, collection); err != nil {
			return err
		}
		if err := b.open(ctx); err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, address := range addresses {
			if seen[address] {
				continue
			}
			seen[address] = true
			if err := b.page(ctx, address); err != nil {
				return err
			}
		}
		done = b.Submission
		return b.settle(ctx)
	})
	if err != nil {
		return Submission{}, fmt.Errorf("store %d addresses in collection %q: %w", len(addresses), collection, err)
	}
	return done, nil
}

func checkAddresses(addresses []string) error {
	if len(addresses) == 0 {
		return &InvalidError{"urls", "must not be empty"}
	}
	if len(addresses) > maxFiles {
		return &InvalidError{"urls", fmt.Sprintf("are %d; at most %d are accepted at once", len(addresses), maxFiles)}
	}
	for i, address := range addresses {
		field := fmt.Sprintf("urls[%d]", i)
		if err := checkText(field, address, 1, maxNameBytes); err != nil {
			return err
		}
		if err := fetch.Check(address); err != nil {
			return &InvalidError{field, "is not fetched: " + err.Error()}
		}
	}
	return nil
}

// page records that an address is to be fetched, as the next version of the document that has its name alone, else as
// a new document.
func (b *batch) page(ctx context.Context, address string) error {
	now, err := b.named(ctx, address)
	if err != nil {
		return err
	}
	d := Submitted{ID: now.id, Name: address, State: Queued}
	var version int
	if now.id != "" && now.names == 1 {
		err = b.tx.QueryRow(ctx, `UPDATE documents SET address = $2, version = version + 1, state = 'queued', stage = '', error = '', done = 0,
			updated_at = now(), queued_at = now() WHERE id = $1 RETURNING version`, d.ID, address).Scan(&version)
	} else {
		if now.id != "" {
			b.touched = append(b.touched, now.id) // others have its content too, and keep it
		}
		hash := sha256.Sum256([]byte("to be fetched\x00" + address)) // of no content
		if d.ID, version, err = b.version(ctx, "", File{Name: address, Source: address}, []byte("{}"), hash[:]); err == nil {
			_, err = b.tx.Exec(ctx, "UPDATE documents SET address = $2 WHERE id = $1", d.ID, address)
		}
	}
	if err != nil {
		return err
	}
	if err := b.service.enqueue(ctx, b.tx, d.ID, version); err != nil {
		return err
	}
	return b.add(ctx, d)
}

// fetch gets the page that the document stands for. What comes is taken like a file that is handed in, so that it may
// be unchanged, a copy, a new version or an archive; then other work is queued, or none is left.
func (t *task) fetch(ctx context.Context, job *river.Job[jobArgs]) error {
	if err := t.enter(ctx, Extracting, fetching); err != nil {
		return err
	}
	page, err := t.fetcher.Get(ctx, t.address)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if fetch.Temporary(err) && job.Attempt < fetchAttempts {
			return err
		}
		return &badDocument{err.Error()}
	}
	f := File{Name: t.address, Source: page.URL, MediaType: page.MediaType, Content: page.Content}
	if _, err := checkFile("page", f, t.options.MaxBytes); err != nil {
		return &badDocument{err.Error()}
	}
	if err := pgx.BeginFunc(ctx, t.conn, func(tx pgx.Tx) error { return t.takePage(ctx, tx, f) }); err != nil {
		return err
	}
	return errVoid
}

// takePage hands the content of a page in, in place of the version that waited for it.
func (t *task) takePage(ctx context.Context, tx pgx.Tx, f File) error {
	b := &batch{service: t.Service, tx: tx}
	// The collection comes first, as in Submit: submissions to it follow each other.
	err := tx.QueryRow(ctx, "SELECT id::text FROM collections WHERE id = $1 FOR NO KEY UPDATE", t.collection).Scan(&b.collection)
	if err != nil {
		return voidIfGone(err, "lock the collection")
	}
	var metadata, ready []byte
	var names int
	err = tx.QueryRow(ctx, `SELECT metadata, ready_hash, (SELECT count(*) FROM document_names n WHERE n.document_id = d.id)
		FROM documents d WHERE id = $1 AND version = $2 AND state NOT IN ('ready', 'failed') FOR UPDATE`, t.id, t.version).
		Scan(&metadata, &ready, &names)
	if err != nil {
		return voidIfGone(err, "lock the document")
	}
	if b.IngestionID, err = t.ingestion(ctx, tx); err != nil {
		return err
	}
	hash := sha256.Sum256(f.Content)
	switch {
	case bytes.Equal(ready, hash[:]):
		if _, err := tx.Exec(ctx, "UPDATE documents SET hash = $2, source = $3 WHERE id = $1", t.id, hash[:], f.Source); err != nil {
			return err
		}
		return t.settlePage(ctx, tx)
	case extract.IsArchive(f.Content):
		// Its files are documents of their own names; one of its own is made only if it cannot be read.
		if _, err := tx.Exec(ctx, "DELETE FROM document_names WHERE document_id = $1 AND name = $2", t.id, f.Name); err != nil {
			return err
		}
		b.touched = append(b.touched, t.id)
	case names == 1:
		// What it held before is what comes, but is not visible: it must not be found to have it already.
		if _, err := tx.Exec(ctx, "UPDATE documents SET hash = sha256($2 || uuid_send(id)) WHERE id = $1", t.id, hash[:]); err != nil {
			return err
		}
	}
	if err := b.take(ctx, f, metadata); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	return t.settlePage(ctx, tx)
}

// ingestion is the latest submission that the document came with.
func (t *task) ingestion(ctx context.Context, tx pgx.Tx) (id string, err error) {
	err = tx.QueryRow(ctx, `SELECT i.id::text FROM ingestion_documents o JOIN ingestions i ON i.id = o.ingestion_id
		WHERE o.document_id = $1 ORDER BY i.created_at DESC, i.id LIMIT 1`, t.id).Scan(&id)
	if err != nil {
		return "", fmt.Errorf("find the ingestion of document %s: %w", t.id, err)
	}
	return id, nil
}

// settlePage ends the waiting of the document where nothing has taken its place: its content is what it was before.
// If that can be found it is ready, else it is worked on.
func (t *task) settlePage(ctx context.Context, tx pgx.Tx) error {
	var state State
	var version int
	err := tx.QueryRow(ctx, `UPDATE documents SET address = '', version = version + 1, stage = '', error = '', updated_at = now(),
			state = CASE WHEN ready_hash = hash THEN 'ready' ELSE 'queued' END, done = CASE WHEN ready_hash = hash THEN 1 ELSE 0 END,
			finished_at = CASE WHEN ready_hash = hash THEN clock_timestamp() ELSE finished_at END
		WHERE id = $1 AND version = $2 RETURNING state, version`, t.id, t.version).Scan(&state, &version)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("end the waiting for a page: %w", err)
	case state == Queued:
		return t.enqueue(ctx, tx, t.id, version)
	}
	return nil
}

// voidIfGone ends a task whose row is not there any more.
func voidIfGone(err error, doing string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return errVoid
	}
	return fmt.Errorf("%s: %w", doing, err)
}
