package retrieve

import (
	"context"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pgvector/pgvector-go"

	"lessrag/cmd/api/postgres/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// bagEmbedder gives a text the sum of its words' random directions: texts
// with common words are near each other.
type bagEmbedder struct{ name string }

func (e bagEmbedder) Dim() int     { return 384 }
func (e bagEmbedder) Name() string { return e.name }

func (e bagEmbedder) Embed(_ context.Context, texts []string) ([][]float32, error) {
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		v := make([]float32, 384)
		for word := range strings.FieldsFuncSeq(strings.ToLower(text), notWord) {
			h := fnv.New64a()
			h.Write([]byte(word))
			r := rand.New(rand.NewPCG(h.Sum64(), 1))
			for j := range v {
				v[j] += float32(r.NormFloat64())
			}
		}
		vectors[i] = unit(v)
	}
	return vectors, nil
}

func (e bagEmbedder) EmbedQuery(ctx context.Context, question string) ([]float32, error) {
	vectors, err := e.Embed(ctx, []string{question})
	return vectors[0], err
}

func unit(v []float32) []float32 {
	sum := 1e-12
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(sum))
	}
	return v
}

// document is one that a test stores: its chunks are its parts, one after the
// other, two bytes apart.
type document struct {
	name     string
	parts    []string
	metadata map[string]any
}

// store makes a collection of ready documents.
func store(t testing.TB, pool *pgxpool.Pool, e Embedder, collection string, documents ...document) {
	t.Helper()
	ctx := t.Context()
	var collectionID string
	err := pool.QueryRow(ctx, `INSERT INTO collections (name, embedder, dimensions) VALUES ($1, $2, $3) RETURNING id::text`,
		collection, e.Name(), e.Dim()).Scan(&collectionID)
	if err != nil {
		t.Fatal(err)
	}
	batch := &pgx.Batch{}
	for _, d := range documents {
		if d.metadata == nil {
			d.metadata = map[string]any{}
		}
		var id string
		err := pool.QueryRow(ctx, `INSERT INTO documents (collection_id, name, source, metadata, hash, bytes, state, chunks)
			VALUES ($1, $2, $3, $4, sha256($2::text::bytea), 1, 'ready', $5) RETURNING id::text`,
			collectionID, d.name, "file:///"+d.name, d.metadata, len(d.parts)).Scan(&id)
		if err != nil {
			t.Fatal(err)
		}
		vectors, err := e.Embed(ctx, d.parts)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for i, text := range d.parts {
			batch.Queue(`INSERT INTO chunks (document_id, collection_id, ordinal, text, start_offset, end_offset, heading_path, tokens, embedding, lexemes)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, to_tsvector('english', $4::text))`,
				id, collectionID, i, text, at, at+len(text), []string{"Heading"}, len(strings.Fields(text)), pgvector.NewHalfVector(vectors[i]))
			at += len(text) + 2
		}
	}
	if err := pool.SendBatch(ctx, batch).Close(); err != nil {
		t.Fatal(err)
	}
}

func names(passages []Passage) string {
	all := make([]string, len(passages))
	for i, p := range passages {
		all[i] = p.Document.Name
	}
	return strings.Join(all, " ")
}
