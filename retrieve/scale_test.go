package retrieve

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pgvector/pgvector-go"

	"lessrag/cmd/api/postgres/pgtest"
)

// scaleChunks is the collection that TestScale searches.
const scaleChunks = 100_000

// TestScale fills a collection with generated passages and holds what the
// vector index finds to an exact scan. It logs how long searches take beside
// pgvector's bare query. Texts are of 60 words, half of them from one of 500
// topics and half from a vocabulary in which few words are frequent. Vectors
// are mixed of those of two real sentences each, of this project's pages;
// queries are other sentences of them.
func TestScale(t *testing.T) {
	if os.Getenv("LESSRAG_TEST_LONG") == "" {
		t.Skip("fills 100,000 passages: set LESSRAG_TEST_LONG=1")
	}
	pool, texts := pgtest.New(t), newTopics(t)
	began := time.Now()
	id := fill(t, pool, texts)
	t.Logf("%d passages and their index after %v", scaleChunks, time.Since(began).Round(time.Second))

	s := New(pool, texts, nil)
	r := rand.New(rand.NewPCG(5, 6))
	var hybrid, vector, lexical, widening, bare []time.Duration
	found, wanted := 0, 0
	const queries = 100
	for range queries {
		query := texts.text(r, 8)
		texts.asked[query] = texts.queries[r.IntN(len(texts.queries))]
		search := func(mode string, exact bool) (Results, time.Duration) {
			results, err := s.Search(t.Context(), Query{Text: query, Collection: "scale", Mode: mode, Limit: 10, Exact: exact})
			if err != nil {
				t.Fatal(err)
			}
			return results, results.SearchTime
		}
		for _, kind := range []struct {
			mode  string
			times *[]time.Duration
		}{{Hybrid, &hybrid}, {Vector, &vector}, {Lexical, &lexical}} {
			results, took := search(kind.mode, false)
			*kind.times = append(*kind.times, took)
			widening = append(widening, results.WidenTime)
		}
		took, nearest := bareQuery(t, pool, id, texts.asked[query], false)
		bare = append(bare, took)
		_, truth := bareQuery(t, pool, id, texts.asked[query], true)
		for _, distance := range nearest { // of equally near ones, either will do
			wanted++
			if distance <= truth[len(truth)-1]+1e-9 {
				found++
			}
		}
	}
	recall := float64(found) / float64(wanted)
	if !(recall >= 0.97) {
		t.Errorf("recall@10 of the index is %.3f of an exact scan", recall)
	}
	t.Logf("recall@10 %.4f; median and p95: hybrid %v %v, vector %v %v, words %v %v, widening what they found %v %v, pgvector alone %v %v (p95 of vector ×%.2f)", recall,
		quantile(hybrid, 0.5), quantile(hybrid, 0.95), quantile(vector, 0.5), quantile(vector, 0.95), quantile(lexical, 0.5), quantile(lexical, 0.95), quantile(widening, 0.5), quantile(widening, 0.95),
		quantile(bare, 0.5), quantile(bare, 0.95), float64(quantile(vector, 0.95))/float64(quantile(bare, 0.95)))
}

func quantile(times []time.Duration, q float64) time.Duration {
	slices.Sort(times)
	return times[int(q*float64(len(times)-1))].Round(10 * time.Microsecond)
}

// bareQuery is a nearest-neighbour query as pgvector's manual has it, with as
// many rows as a search takes into its list; it returns the distances of the
// first ten.
func bareQuery(t *testing.T, pool *pgxpool.Pool, collection string, vector []float32, exact bool) (took time.Duration, distances []float64) {
	t.Helper()
	order := ""
	if exact {
		order = allVectors
	}
	began := time.Now()
	rows, err := pool.Query(t.Context(), `SELECT embedding <=> $2 FROM chunks WHERE collection_id = $1 ORDER BY (embedding <=> $2)`+order+` LIMIT 40`,
		collection, pgvector.NewHalfVector(vector))
	if err == nil {
		distances, err = pgx.CollectRows(rows, pgx.RowTo[float64])
	}
	took = time.Since(began)
	if err != nil {
		t.Fatal(err)
	}
	return took, distances[:10]
}

// topics is an embedder of what was asked, and the source of the passages.
type topics struct {
	bagEmbedder
	words   []string
	real    [][]float32 // of sentences
	queries [][]float32 // of others
	asked   map[string][]float32
}

func newTopics(t *testing.T) *topics {
	t.Helper()
	x := &topics{bagEmbedder: bagEmbedder{"topics"}, asked: map[string][]float32{}}
	for i := range 20_000 {
		x.words = append(x.words, fmt.Sprintf("%ck%ck%ck%ck", 'a'+i%20, 'a'+i/20%20, 'a'+i/400%20, 'a'+i/8000))
	}
	var texts []string
	for _, pattern := range []string{"../docs/*.md", "../examples/handbook/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range sentences(string(content)) {
				if text := string(content[s.start:s.end]); len(words(text)) >= 6 {
					texts = append(texts, text)
				}
			}
		}
	}
	vectors, err := openEmbedder(t).Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		if i%10 == 0 {
			x.queries = append(x.queries, v)
		} else {
			x.real = append(x.real, v)
		}
	}
	t.Logf("%d sentences, and %d to ask with", len(x.real), len(x.queries))
	return x
}

// mixed is a passage's vector.
func (x *topics) mixed(r *rand.Rand) []float32 {
	a, b := x.real[r.IntN(len(x.real))], x.real[r.IntN(len(x.real))]
	v := make([]float32, len(a))
	for i := range v {
		v[i] = 0.8*a[i] + 0.6*b[i]
	}
	return unit(v)
}

// text is n words about a topic.
func (x *topics) text(r *rand.Rand, n int) string {
	topic := r.IntN(500)
	all := make([]string, n)
	for i := range all {
		if i%2 == 0 {
			all[i] = x.words[4000+topic*32+r.IntN(32)]
		} else {
			u := r.Float64()
			all[i] = x.words[int(u*u*u*4000)]
		}
	}
	return strings.Join(all, " ")
}

func (x *topics) EmbedQuery(_ context.Context, question string) ([]float32, error) {
	return x.asked[question], nil
}

// fill stores the passages, five hundred a document, and then builds the index.
func fill(t *testing.T, pool *pgxpool.Pool, x *topics) (collection string) {
	t.Helper()
	ctx := t.Context()
	if _, err := pool.Exec(ctx, "DROP INDEX chunks_embedding"); err != nil {
		t.Fatal(err)
	}
	err := pool.QueryRow(ctx, `INSERT INTO collections (name, embedder, dimensions, language) VALUES ('scale', 'topics', 384, 'simple') RETURNING id::text`).Scan(&collection)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(9, 10))
	const perDocument = 500
	for first := 0; first < scaleChunks; first += perDocument {
		texts := make([]string, perDocument)
		vectors := make([]pgvector.HalfVector, perDocument)
		for i := range texts {
			texts[i] = x.text(r, 60)
			vectors[i] = pgvector.NewHalfVector(x.mixed(r))
		}
		_, err := pool.Exec(ctx, `WITH d AS (
				INSERT INTO documents (collection_id, name, hash, bytes, state) VALUES ($1::uuid, $2::text, sha256($2::text::bytea), 1, 'ready') RETURNING id
			) INSERT INTO chunks (document_id, collection_id, ordinal, text, start_offset, end_offset, heading_path, tokens, embedding, lexemes)
			SELECT d.id, $1::uuid, n, text, n * 1000, n * 1000 + length(text), ARRAY[n::text], 60, embedding, to_tsvector('simple', text)
			FROM d, unnest($3::text[], $4::halfvec[]) WITH ORDINALITY AS c(text, embedding, n)`, collection, fmt.Sprint(first), texts, vectors)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{"SET maintenance_work_mem = '512MB'; CREATE INDEX chunks_embedding ON chunks USING hnsw (embedding halfvec_cosine_ops) WITH (ef_construction = 200)", "VACUUM ANALYZE"} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	return collection
}
