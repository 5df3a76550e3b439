package retrieve

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/pgvector/pgvector-go"
)

// candidates is the length of each of the two lists that are fused, 80, or of one alone, 40; the limit where
// that is more.
func candidates(q Query) int {
	if q.Mode == Hybrid {
		return max(80, q.Limit)
	}
	return max(40, q.Limit)
}

// The constants of the formulas in searchSQL.
const (
	wordsWeight  = 0.15   // what the words of a passage count beside its cosine
	saturation   = 1.2    // BM25's k1: how soon more of the same word says nothing more
	lengthWeight = 0.75   // BM25's b: how much a long passage has to repeat its words
	mostMatches  = 1_000  // passages that are looked at by words, if the rarest word is in no more
	mostLooks    = 20_000 // and if it is
)

// nearest is the list of those nearest by cosine: none of a question without a vector. An order that is not just the
// distance, as allVectors makes it, keeps the planner from the index.
const nearest = `
    SELECT id, embedding <=> $2::halfvec AS distance
    FROM chunks
    WHERE collection_id = $1::uuid AND $2::halfvec IS NOT NULL %[1]s
    ORDER BY (embedding <=> $2::halfvec)%[2]s
    LIMIT $5
`

const allVectors = " + 0"

// vectorSQL is a search by cosine alone: what words weigh is not asked for. Its parameters, and those of searchSQL,
// are named in statement.
const vectorSQL = `
WITH nearest AS MATERIALIZED (` + nearest + `)
SELECT c.id, d.id::text, d.name, d.source, c.text, c.start_offset, c.end_offset, c.page, c.heading_path,
       c.tokens, 1 - distance AS score, 1 - distance, c.lexemes @@ websearch_to_tsquery($3::regconfig, $4), row_number() OVER (ORDER BY distance, c.id), 0, c.ordinal, NULL::halfvec
FROM nearest JOIN chunks c USING (id) JOIN documents d ON d.id = c.document_id
ORDER BY distance, c.id`

// bm25 is the weight of a passage c by its words.
const bm25 = `(
    SELECT sum(weight * n * (1 + $8::float8) / (n + $8::float8 * (1 - $9::float8 + $9::float8 * c.tokens / length)))
    FROM asked, LATERAL round(1 / (1.644934 * (1 - least(ts_rank('{1,1,1,1}', c.lexemes, word), 0.999))) - 0.5) AS n
)`

// searchSQL is a search in one statement: two lists of candidates, each of them
// then scored in both ways. Texts are joined after the lists: joined inside, they
// would cost the vector list its index.
//
// The score is convex, of cosine and words (Bruch, Gai and Ingber, arXiv
// 2210.11934), and not of ranks, which forget how far a passage is ahead. Words
// count by the share that a passage has of the highest BM25; all of it where the
// passage holds all words, as websearch_to_tsquery understands them with its
// phrases.
//
// BM25 (Robertson and Zaragoza 2009, equation 3.15, with the inverse document
// frequency that is never negative) is computed from what the table lexicon
// knows of the collection. Passages that hold all words come first in their
// list. Only passages that hold one of the rarest words are looked at, so that
// words that are everywhere cost nothing: rarest first, words are taken until
// mostMatches passages may hold them.
//
// How often a passage holds a word follows from ts_rank: for a single word it
// is Σ 1/j² for j up to that number, over π²/6, and the rest of that sum is
// very nearly 1/(number + ½).
const searchSQL = `
WITH asked AS MATERIALIZED (
    SELECT ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery AS word,
           ln(1 + (t.chunks - l.chunks + 0.5) / (l.chunks + 0.5)) AS weight, t.tokens::float8 / t.chunks AS length,
           row_number() OVER rarest = 1 OR sum(l.chunks) OVER rarest <= $7::int AS rare
    FROM lexicon l JOIN lexicon_totals t USING (collection_id)
    WHERE collection_id = $1::uuid AND lexeme = ANY (tsvector_to_array(to_tsvector($3::regconfig, $4)))
    WINDOW rarest AS (ORDER BY l.chunks, lexeme ROWS UNBOUNDED PRECEDING)
), nearest AS MATERIALIZED (` + nearest + `), matched AS MATERIALIZED (
    SELECT c.id, c.lexemes @@ (SELECT websearch_to_tsquery($3::regconfig, $4)) AS every, ` + bm25 + ` AS weight
    FROM (
        SELECT id, tokens, setweight(lexemes, 'D') AS lexemes -- read once, not once for every word
        FROM chunks
        WHERE collection_id = $1::uuid AND lexemes @@ (SELECT string_agg(word::text, ' | ')::tsquery FROM asked WHERE rare) %[1]s
        LIMIT $11::int
    ) c
    ORDER BY every DESC, weight DESC, id
    LIMIT $5
), listed AS (
    SELECT id, coalesce(v.rank, 0) AS vector, coalesce(l.rank, 0) AS lexical
    FROM (SELECT id, row_number() OVER (ORDER BY distance, id) AS rank FROM nearest) v
    FULL JOIN (SELECT id, row_number() OVER (ORDER BY every DESC, weight DESC, id) AS rank FROM matched) l USING (id)
), scored AS (
    SELECT c.*, vector, lexical, coalesce(1 - (c.embedding <=> $2::halfvec), 0) AS similarity, lexemes @@ (SELECT websearch_to_tsquery($3::regconfig, $4)) AS every,
           coalesce(` + bm25 + ` / nullif((SELECT max(weight) FROM matched), 0), 0) AS share
    FROM listed JOIN (SELECT id, document_id, text, start_offset, end_offset, page, heading_path, tokens, ordinal, embedding, setweight(lexemes, 'D') AS lexemes FROM chunks) c USING (id)
)
SELECT c.id, d.id::text, d.name, d.source, c.text, c.start_offset, c.end_offset, c.page, c.heading_path,
       c.tokens, c.similarity + $10::float8 * CASE WHEN every AND lexical > 0 THEN 1 ELSE least(share, 1) END AS score, c.similarity, c.every, c.vector, c.lexical, c.ordinal, CASE WHEN $2::halfvec IS NOT NULL THEN c.embedding END
FROM scored c JOIN documents d ON d.id = c.document_id
ORDER BY score DESC, c.lexical = 0, c.lexical, c.vector, c.id
LIMIT $6`

// byMetadata narrows a list to some documents. IS TRUE keeps the planner from
// making a join of it: it stays a filter that looks every row up in a hash
// table, and the vector list keeps its index.
const byMetadata = `AND (document_id IN (SELECT id FROM documents WHERE collection_id = $1::uuid AND %s)) IS TRUE`

// statement returns the SQL of a search and its arguments: the collection ($1), the question's vector ($2) and its
// words ($4) in a language ($3), the length of a list ($5), for searchSQL the constants of its formulas, and a
// filter's keys and values.
func statement(q Query, c collection, filter []condition, vector []float32) (string, []any) {
	var embedding any
	if vector != nil {
		embedding = pgvector.NewHalfVector(vector)
	}
	sql, args := vectorSQL, []any{c.id, embedding, c.language, plainDashes(q.words()), candidates(q)}
	if q.Mode != Vector {
		sql, args = searchSQL, append(args, fetched(q), mostMatches, float64(saturation), float64(lengthWeight), wordsWeight, mostLooks)
	}
	order := ""
	if q.Exact {
		order = allVectors
	}
	if len(filter) == 0 {
		return fmt.Sprintf(sql, "", order), args
	}
	clauses := make([]string, len(filter))
	for i, f := range filter {
		args = append(args, f.key, f.value)
		clauses[i] = fmt.Sprintf(operators[f.op], fmt.Sprintf("$%d::text", len(args)-1), fmt.Sprintf("$%d", len(args)))
	}
	return fmt.Sprintf(sql, fmt.Sprintf(byMetadata, strings.Join(clauses, " AND ")), order), args
}

// plainDashes takes the meaning "not" from a dash that begins a word: "what
// does tar -x do" asks about -x, and the vectors could not honour an exclusion
// anyway. A dash inside a word stays.
func plainDashes(text string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		last := before
		before = r
		if r == '-' && !unicode.IsLetter(last) && !unicode.IsDigit(last) {
			return ' '
		}
		return r
	}, text)
}

// fetched is how many passages to read: all of both lists, since their order may change, and many may stand at
// one place.
func fetched(q Query) int {
	if q.Mode == Hybrid {
		return 2 * candidates(q)
	}
	return candidates(q)
}
