package ingest

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pgvector/pgvector-go"
)

// storeSQL takes columns of chunks: a temporary table in between would cost more than all of a small document's rows.
const storeSQL = `INSERT INTO chunks (document_id, collection_id, ordinal, text, start_offset, end_offset, page, heading_path, tokens,
		section_start, section_end, lead, boxes, embedding, lexemes)
	SELECT $1, c.id, s.ordinal, s.text, s.start_offset, s.end_offset, s.page, string_to_array(s.path, E'\x1f'), s.tokens,
	       s.section_start, s.section_end, s.lead, s.boxes::real[], s.embedding,
	       to_tsvector(c.language, translate(s.path, E'\x1f', ' ') || ' ' || s.lead || ' ' || s.text)
	FROM collections c, unnest($3::int[], $4::text[], $5::int[], $6::int[], $7::int[], $8::text[], $9::int[], $10::int[], $11::int[], $12::text[],
	       $13::text[], $14::halfvec[])
	     s (ordinal, text, start_offset, end_offset, page, path, tokens, section_start, section_end, lead, boxes, embedding)
	WHERE c.id = $2 ORDER BY s.ordinal`

// unitSeparator stands between the headings of a path on the way to the database.
const unitSeparator = "\x1f"

// columns of some chunks, in the order of storeSQL.
type columns struct {
	ordinal, start, end, tokens, sectionStart, sectionEnd []int
	page                                                  []*int
	text, path, lead                                      []string
	boxes                                                 []*string // of real[]; nil without pages
	embedding                                             []pgvector.HalfVector
}

func (c *columns) add(ordinal int, chunk Chunk, vector []float32) {
	c.ordinal, c.start, c.end = append(c.ordinal, ordinal), append(c.start, chunk.Start), append(c.end, chunk.End)
	c.tokens, c.page = append(c.tokens, chunk.Tokens), append(c.page, chunk.Page)
	c.sectionStart, c.sectionEnd = append(c.sectionStart, chunk.SectionStart), append(c.sectionEnd, chunk.SectionEnd)
	c.text, c.lead, c.path = append(c.text, chunk.Text), append(c.lead, chunk.Lead), append(c.path, joinPath(chunk.HeadingPath))
	c.boxes, c.embedding = append(c.boxes, boxesText(chunk.Boxes)), append(c.embedding, pgvector.NewHalfVector(vector))
}

// joinPath makes one text of a path, which string_to_array takes apart.
func joinPath(path []string) string {
	clean := make([]string, len(path))
	for i, heading := range path {
		clean[i] = strings.ReplaceAll(heading, unitSeparator, " ")
	}
	return strings.Join(clean, unitSeparator)
}

// boxesText is an array of real as Postgres reads it.
func boxesText(boxes []float32) *string {
	if boxes == nil {
		return nil
	}
	b := []byte{'{'}
	for i, x := range boxes {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(x), 'g', -1, 32)
	}
	text := string(append(b, '}'))
	return &text
}

// storeChunks inserts the passages of a document.
func storeChunks(ctx context.Context, tx pgx.Tx, document, collection string, chunks []Chunk, vectors [][]float32) error {
	for first := 0; first < len(chunks); first += window {
		var c columns
		for i := first; i < min(first+window, len(chunks)); i++ {
			c.add(i, chunks[i], vectors[i])
		}
		tag, err := tx.Exec(ctx, storeSQL, document, collection, c.ordinal, c.text, c.start, c.end, c.page, c.path, c.tokens,
			c.sectionStart, c.sectionEnd, c.lead, c.boxes, c.embedding)
		if err != nil {
			return fmt.Errorf("store the passages of document %s: %w", document, err)
		}
		if tag.RowsAffected() != int64(len(c.ordinal)) {
			return fmt.Errorf("store the passages of document %s: %d of %d came", document, tag.RowsAffected(), len(c.ordinal))
		}
	}
	return nil
}
