package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"lessrag/ingest/extract"
)

// unpacking is the stage at which an entry of an archive fails that was never taken out.
const unpacking = "unpacking"

// batch is one submission inside its transaction. A name belongs to one document; a document has as many names
// as files have its content. Names move between documents while files are taken, and settle closes the books.
type batch struct {
	Submission
	service    *Service
	tx         pgx.Tx
	collection string   // id
	touched    []string // documents whose names have changed
}

// open records the ingestion.
func (b *batch) open(ctx context.Context) error {
	return b.tx.QueryRow(ctx, "INSERT INTO ingestions (collection_id) VALUES ($1) RETURNING id::text", b.collection).Scan(&b.IngestionID)
}

// take takes one file, or the files of an archive. An archive that cannot be read to its end leaves one
// failed document that says why, and nothing of its files.
func (b *batch) take(ctx context.Context, f File, metadata []byte) error {
	if !extract.IsArchive(f.Content) {
		return b.file(ctx, f, metadata)
	}
	before := len(b.Documents)
	err := pgx.BeginFunc(ctx, b.tx, func(pgx.Tx) error { // a savepoint
		n := 0
		for m, err := range extract.Members(f.Content, b.service.options.MaxBytes) {
			if err != nil {
				return &badDocument{err.Error()}
			}
			if err := b.member(ctx, f, m, metadata); err != nil {
				return err
			}
			n++
		}
		if n == 0 {
			return &badDocument{"the archive has no files in it"}
		}
		return nil
	})
	if bad, ok := errors.AsType[*badDocument](err); ok {
		b.Documents = b.Documents[:before]
		return b.refuse(ctx, f, metadata, bad.reason)
	}
	return err
}

// member takes a file of an archive.
func (b *batch) member(ctx context.Context, archive File, m extract.Member, metadata []byte) error {
	f := File{Name: archive.Name + "/" + m.Name, Metadata: archive.Metadata, Content: m.Content}
	if archive.Source != "" {
		f.Source = archive.Source + "/" + m.Name
	}
	reason := m.Refused
	if reason == nil {
		_, reason = checkFile("its", f, b.service.options.MaxBytes)
	}
	if reason == nil {
		return b.file(ctx, f, metadata)
	}
	f.Name, f.Source, f.Content = clip(f.Name, maxNameBytes), clip(f.Source, maxSourceBytes), nil
	return b.refuse(ctx, f, metadata, reason.Error())
}

// file decides what one file is, and records it: unchanged, a copy of what is there, a new version, or new.
func (b *batch) file(ctx context.Context, f File, metadata []byte) error {
	hash := sha256.Sum256(f.Content)
	now, err := b.named(ctx, f.Name)
	if err != nil {
		return err
	}
	held, err := b.holding(ctx, hash[:], now.id)
	if err != nil {
		return err
	}
	d := Submitted{ID: held.id, Name: held.name, State: held.state, Duplicate: true}
	switch {
	case held.id != "" && (held.id == now.id || now.id == "" || held.state == Ready):
		// What the collection holds is not taken again. A known name leaves its old content only for content that
		// can be found at once; otherwise it is a version like any other.
		if err := b.name(ctx, f, metadata, held.id); err != nil {
			return err
		}
		b.touched = append(b.touched, held.id)
		if now.id != "" {
			b.touched = append(b.touched, now.id)
		}
		return b.add(ctx, d)
	case now.id != "" && now.names > 1:
		// Other files still have the old content: the document stays theirs.
		b.touched = append(b.touched, now.id)
		now.id = ""
	}
	d = Submitted{Name: f.Name, State: Queued}
	var version int
	if d.ID, version, err = b.version(ctx, now.id, f, metadata, hash[:]); err != nil {
		return err
	}
	if err := b.service.enqueue(ctx, b.tx, d.ID, version); err != nil {
		return err
	}
	return b.add(ctx, d)
}

// refuse records a document that failed before it was one: an archive, or an entry of one.
func (b *batch) refuse(ctx context.Context, f File, metadata []byte, reason string) error {
	hash := sha256.Sum256([]byte(reason + "\x00" + string(f.Content)))
	now, err := b.named(ctx, f.Name)
	if err != nil {
		return err
	}
	if now.names > 1 {
		b.touched = append(b.touched, now.id)
		now.id = ""
	}
	id, version, err := b.version(ctx, now.id, f, metadata, hash[:])
	if err != nil {
		return err
	}
	_, err = b.tx.Exec(ctx, `UPDATE documents SET state = 'failed', stage = $3, error = $4, finished_at = now() WHERE id = $1 AND version = $2`,
		id, version, unpacking, storable(reason))
	if err != nil {
		return err
	}
	return b.add(ctx, Submitted{ID: id, Name: f.Name, State: Failed})
}

// holder is the document of a name, or of a content.
type holder struct {
	id    string // "" when there is none
	name  string
	state State
	names int
}

// named finds the document that a name belongs to.
func (b *batch) named(ctx context.Context, name string) (holder, error) {
	return b.find(ctx, `SELECT d.id::text, d.name, d.state, (SELECT count(*) FROM document_names o WHERE o.document_id = d.id)
		FROM document_names n JOIN documents d ON d.id = n.document_id WHERE n.collection_id = $1 AND n.name = $2`, b.collection, name)
}

// holding finds a document with the content, the preferred one or else one that is ready.
func (b *batch) holding(ctx context.Context, hash []byte, prefer string) (holder, error) {
	return b.find(ctx, `SELECT id::text, name, state, 0 FROM documents WHERE collection_id = $1 AND hash = $2
		ORDER BY id::text = $3 DESC, state = 'ready' DESC, created_at, id LIMIT 1`, b.collection, hash, prefer)
}

func (b *batch) find(ctx context.Context, query string, args ...any) (holder, error) {
	var h holder
	err := b.tx.QueryRow(ctx, query, args...).Scan(&h.id, &h.name, &h.state, &h.names)
	if errors.Is(err, pgx.ErrNoRows) {
		return holder{}, nil
	}
	return h, err
}

// version stores content as a new version of a document, or as a new document when id is "".
func (b *batch) version(ctx context.Context, id string, f File, metadata, hash []byte) (_ string, version int, err error) {
	if id == "" {
		err = b.tx.QueryRow(ctx, `INSERT INTO documents (collection_id, name, source, media_type, metadata, hash, bytes)
			VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id::text, version`,
			b.collection, f.Name, f.Source, f.MediaType, metadata, hash, len(f.Content)).Scan(&id, &version)
	} else {
		err = b.tx.QueryRow(ctx, `UPDATE documents SET source = $2, media_type = $3, metadata = $4, hash = $5, bytes = $6, address = '', version = version + 1,
				state = 'queued', stage = '', error = '', done = 0, updated_at = now(), queued_at = now()
			WHERE id = $1 RETURNING version`, id, f.Source, f.MediaType, metadata, hash, len(f.Content)).Scan(&version)
	}
	if err != nil {
		return "", 0, err
	}
	content := f.Content
	if content == nil {
		content = []byte{}
	}
	_, err = b.tx.Exec(ctx, `INSERT INTO document_bodies (document_id, content) VALUES ($1, $2)
		ON CONFLICT (document_id) DO UPDATE SET content = excluded.content`, id, content)
	if err != nil {
		return "", 0, err
	}
	return id, version, b.name(ctx, f, metadata, id)
}

// name makes a name that of a document, with what is said about it.
func (b *batch) name(ctx context.Context, f File, metadata []byte, id string) error {
	_, err := b.tx.Exec(ctx, `INSERT INTO document_names (collection_id, name, document_id, source, metadata) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (collection_id, name) DO UPDATE SET document_id = excluded.document_id, source = excluded.source, metadata = excluded.metadata`,
		b.collection, f.Name, id, f.Source, metadata)
	return err
}

func (b *batch) add(ctx context.Context, d Submitted) error {
	_, err := b.tx.Exec(ctx, `INSERT INTO ingestion_documents (ingestion_id, document_id, duplicate) VALUES ($1, $2, $3)
		ON CONFLICT DO NOTHING`, b.IngestionID, d.ID, d.Duplicate)
	b.Documents = append(b.Documents, d)
	return err
}

// settle shows every document whose names changed by one that it has, and removes those that have none left.
func (b *batch) settle(ctx context.Context) error {
	if len(b.touched) == 0 {
		return nil
	}
	_, err := b.tx.Exec(ctx, `UPDATE documents d SET name = n.name, source = n.source, metadata = n.metadata
		FROM (SELECT DISTINCT ON (o.document_id) o.document_id, o.name, o.source, o.metadata
			FROM document_names o JOIN documents p ON p.id = o.document_id
			WHERE o.document_id = ANY($1) ORDER BY o.document_id, o.name = p.name DESC, o.name) n
		WHERE d.id = n.document_id AND (d.name, d.source, d.metadata) IS DISTINCT FROM (n.name, n.source, n.metadata)`, b.touched)
	if err != nil {
		return fmt.Errorf("rename documents: %w", err)
	}
	_, err = b.tx.Exec(ctx, `DELETE FROM documents d WHERE d.id = ANY($1)
		AND NOT EXISTS (SELECT FROM document_names n WHERE n.document_id = d.id)`, b.touched)
	if err != nil {
		return fmt.Errorf("remove documents without a name: %w", err)
	}
	return nil
}
