package ingest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"lessrag/ingest/extract"
)

// window is how many chunks are embedded, and how many are stored with one statement: enough to sort by length.
const window = 512

// embedAll returns the vectors of all chunks. They are held until they are published: less than the text they are of.
func (t *task) embedAll(ctx context.Context, chunks []Chunk) ([][]float32, error) {
	vectors := make([][]float32, 0, len(chunks))
	for part := range slices.Chunk(chunks, window) {
		some, err := t.embed(ctx, part, len(vectors), len(chunks))
		if err != nil {
			return nil, err
		}
		vectors = append(vectors, some...)
	}
	return vectors, nil
}

// embed returns the vectors of part in its order. Batches are made of texts of similar length,
// because a batch costs what its longest text costs. Between batches the progress is recorded and
// a version that is no longer wanted ends.
func (t *task) embed(ctx context.Context, part []Chunk, first, total int) ([][]float32, error) {
	order := make([]int, len(part))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(part[a].Tokens, part[b].Tokens) })

	vectors := make([][]float32, len(part))
	done := 0
	for batch := range slices.Chunk(order, t.options.BatchSize) {
		texts := make([]string, len(batch))
		for i, c := range batch {
			texts[i] = part[c].embeddedText()
		}
		embedded, err := t.forward(ctx, texts)
		if err != nil {
			return nil, fmt.Errorf("embed %d passages: %w", len(texts), err)
		}
		if err := checkVectors(embedded, len(texts), t.embedder.Dim()); err != nil {
			return nil, err
		}
		for i, c := range batch {
			vectors[c] = embedded[i]
		}
		if done += len(batch); first+done == total {
			break // publishing records it
		}
		if err := t.progress(ctx, float64(first+done)/float64(total)); err != nil {
			return nil, err
		}
	}
	return vectors, nil
}

// forward calls the embedder, on the meter.
func (t *task) forward(ctx context.Context, texts []string) ([][]float32, error) {
	defer t.embedding.enter()()
	return t.embedder.Embed(ctx, texts)
}

func checkVectors(vectors [][]float32, n, dim int) error {
	if len(vectors) != n {
		return fmt.Errorf("the embedder gave %d vectors for %d passages", len(vectors), n)
	}
	for _, v := range vectors {
		if len(v) != dim {
			return fmt.Errorf("the embedder gave a vector of %d values where %d belong", len(v), dim)
		}
	}
	return nil
}

func (t *task) progress(ctx context.Context, done float64) error {
	tag, err := t.conn.Exec(ctx, `UPDATE documents SET done = $3, updated_at = now()
		WHERE id = $1 AND version = $2 AND state = 'embedding'`, t.id, t.version, done)
	if err != nil {
		return fmt.Errorf("record progress: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errVoid
	}
	return nil
}

// embeddedText is what the embedder reads: the headings above the passage, the header of a table that goes on
// in it, then the passage.
func (c Chunk) embeddedText() string {
	path := c.HeadingPath
	if len(path) > 0 && strings.HasPrefix(c.Text, "#") {
		path = path[:len(path)-1] // the passage begins with its own heading
	}
	text := c.Text
	if c.Lead != "" {
		text = c.Lead + "\n" + text
	}
	if len(path) == 0 {
		return text
	}
	return strings.Join(path, " > ") + "\n\n" + text
}

// publish makes the version visible: in one transaction the passages of the version before go, the new ones come
// with their lexemes, the text is swapped and the state becomes ready.
func (t *task) publish(ctx context.Context, document extract.Document, chunks []Chunk, vectors [][]float32) error {
	return pgx.BeginFunc(ctx, t.conn, func(tx pgx.Tx) error {
		// The guard comes first: its row lock orders this after any newer submission or deletion.
		tag, err := tx.Exec(ctx, `UPDATE documents SET state = 'ready', stage = '', error = '', chunks = $3, done = 1,
				ready_hash = hash, media_type = $4, updated_at = now(), finished_at = clock_timestamp()
			WHERE id = $1 AND version = $2 AND state NOT IN ('ready', 'failed')`, t.id, t.version, len(chunks), document.MediaType)
		if err != nil {
			return fmt.Errorf("record that document %s is ready: %w", t.id, err)
		}
		if tag.RowsAffected() == 0 {
			return errVoid
		}
		if _, err := tx.Exec(ctx, "UPDATE document_bodies SET text = $2 WHERE document_id = $1", t.id, document.Text); err != nil {
			return fmt.Errorf("store the text of document %s: %w", t.id, err)
		}
		if _, err := tx.Exec(ctx, "DELETE FROM chunks WHERE document_id = $1", t.id); err != nil {
			return fmt.Errorf("remove the passages of the version before: %w", err)
		}
		return storeChunks(ctx, tx, t.id, t.collection, chunks, vectors)
	})
}

// storable makes a text that Postgres can hold of one that may quote foreign bytes.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
