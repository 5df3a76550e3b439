package ingest

import (
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"lessrag/cmd/api/postgres/pgtest"
)

// TestStoreChunks reads passages back as they were, those of a second statement too.
func TestStoreChunks(t *testing.T) {
	pool := pgtest.New(t)
	var document, collection string
	err := pool.QueryRow(t.Context(), `WITH c AS (INSERT INTO collections (name, embedder, dimensions, language) VALUES ('c', 'e', 384, 'german') RETURNING id)
		INSERT INTO documents (collection_id, name, hash, bytes) SELECT id, 'a', '', 1 FROM c RETURNING id::text, collection_id::text`).Scan(&document, &collection)
	if err != nil {
		t.Fatal(err)
	}
	page := 3
	want := []Chunk{
		{Text: "Über\nGärten", Start: 1, End: 14, HeadingPath: []string{}, Tokens: 5, SectionEnd: 20},
		{Text: "b", HeadingPath: []string{"One, {two}", `"three" \ four`, "fünf"}, Lead: "| Häuser |", Page: &page, Boxes: []float32{3, 1.5, -2, 1e-7, 841.89}},
		{Text: "c", HeadingPath: []string{"NULL"}, Boxes: []float32{}},
	}
	for len(want) <= window {
		want = append(want, Chunk{Text: "d", HeadingPath: []string{}})
	}
	vectors := make([][]float32, len(want))
	for i := range vectors {
		vectors[i] = make([]float32, 384)
		vectors[i][i%384] = 1
	}
	if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return storeChunks(t.Context(), tx, document, collection, want, vectors) }); err != nil {
		t.Fatal(err)
	}
	gone := "00000000-0000-0000-0000-000000000000" // no collection: nothing is inserted, and no statement fails
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return storeChunks(t.Context(), tx, document, gone, want[:2], vectors) })
	if err == nil || !strings.Contains(err.Error(), "0 of 2") {
		t.Errorf("passages of no collection: %v", err)
	}
	rows, _ := pool.Query(t.Context(), `SELECT text, start_offset, end_offset, page, heading_path, tokens, section_start, section_end, lead, boxes FROM chunks ORDER BY ordinal`)
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Chunk])
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: got\n%+v, want\n%+v", err, got[:3], want[:3])
	}
	for query, n := range map[string]int{
		"lexemes @@ to_tsquery('german', 'garten')":                      1, // of its language
		"lexemes @@ to_tsquery('german', 'haus & fünf & b')":             1, // header and path count too
		"(embedding::real[])[ordinal % 384 + 1] = 1":                     len(want),
		"lexemes @@ to_tsquery('german', 'x1f') OR text LIKE E'%\\x1f%'": 0,
	} {
		var found int
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM chunks WHERE "+query).Scan(&found); err != nil || found != n {
			t.Errorf("%s: %d, want %d (%v)", query, found, n, err)
		}
	}
}
