package ingest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"

	"lessrag/ingest/extract"
)

// window is how many chunks are embedded and staged at once: enough to sort by length,
// few enough that memory stays flat for a document of any size.
const window = 512

// stagedColumns of the staging table, a temporary one of the task's connection: nothing of it is
// visible to others, and nothing is left of it when the process dies.
var stagedColumns = []string{"ordinal", "text", "start_offset", "end_offset", "page", "heading_path", "tokens",
	"section_start", "section_end", "lead", "boxes", "embedding"}

const stagingSQL = `CREATE TEMP TABLE IF NOT EXISTS staged_chunks (
	ordinal int, text text, start_offset int, end_offset int, page int, heading_path text[], tokens int,
	section_start int, section_end int, lead text, boxes real[], embedding halfvec)`

// stageChunks embeds the chunks and copies them into the staging table.
func (t *task) stageChunks(ctx context.Context, chunks []Chunk) error {
	if _, err := t.conn.Exec(ctx, stagingSQL); err != nil {
		return fmt.Errorf("create the staging table: %w", err)
	}
	if _, err := t.conn.Exec(ctx, "TRUNCATE staged_chunks"); err != nil {
		return fmt.Errorf("empty the staging table: %w", err)
	}
	for first := 0; first < len(chunks); first += window {
		part := chunks[first:min(first+window, len(chunks))]
		vectors, err := t.embed(ctx, part, first, len(chunks))
		if err != nil {
			return err
		}
		rows := pgx.CopyFromSlice(len(part), func(i int) ([]any, error) {
			c := part[i]
			return []any{first + i, c.Text, c.Start, c.End, c.Page, c.HeadingPath, c.Tokens,
				c.SectionStart, c.SectionEnd, c.Lead, c.Boxes, pgvector.NewHalfVector(vectors[i])}, nil
		})
		if _, err := t.conn.CopyFrom(ctx, pgx.Identifier{"staged_chunks"}, stagedColumns, rows); err != nil {
			return fmt.Errorf("copy passages into the staging table: %w", err)
		}
	}
	return nil
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
		done += len(batch)
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

// publish makes the staged version visible: in one transaction the passages of the version before go,
// the new ones come with their lexemes, the text is swapped and the state becomes ready.
func (t *task) publish(ctx context.Context, document extract.Document, chunks int) error {
	return pgx.BeginFunc(ctx, t.conn, func(tx pgx.Tx) error {
		// The guard comes first: its row lock orders this after any newer submission or deletion.
		tag, err := tx.Exec(ctx, `UPDATE documents SET state = 'ready', stage = '', error = '', chunks = $3, done = 1,
				ready_hash = hash, media_type = $4, updated_at = now(), finished_at = clock_timestamp()
			WHERE id = $1 AND version = $2 AND state NOT IN ('ready', 'failed')`, t.id, t.version, chunks, document.MediaType)
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
		tag, err = tx.Exec(ctx, `
			INSERT INTO chunks (document_id, collection_id, ordinal, text, start_offset, end_offset, page, heading_path, tokens,
				section_start, section_end, lead, boxes, embedding, lexemes)
			SELECT $1, c.id, s.ordinal, s.text, s.start_offset, s.end_offset, s.page, s.heading_path, s.tokens,
			       s.section_start, s.section_end, s.lead, s.boxes, s.embedding,
			       to_tsvector(c.language, array_to_string(s.heading_path, ' ') || ' ' || s.lead || ' ' || s.text)
			FROM staged_chunks s, collections c WHERE c.id = $2 ORDER BY s.ordinal`, t.id, t.collection)
		if err != nil {
			return fmt.Errorf("make the passages visible: %w", err)
		}
		if tag.RowsAffected() != int64(chunks) {
			return fmt.Errorf("make the passages visible: %d of %d were staged", tag.RowsAffected(), chunks)
		}
		_, err = tx.Exec(ctx, "TRUNCATE staged_chunks")
		return err
	})
}

// storable makes a text that Postgres can hold of one that may quote foreign bytes.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
