package retrieve

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/pgvector/pgvector-go"
)

// candidates is the length of each of the two lists that are fused: 40, or
// the limit where that is more.
func candidates(limit int) int { return max(40, limit) }

// searchSQL is a search in one statement: two lists of candidates, fused by
// reciprocal rank (Cormack, Clarke and Büttcher 2009, k = 60). Texts are
// joined after the fusion: joined inside, they would cost the vector list its
// index. Its parameters are named in statement; %s takes the filter.
//
// The words match in two ways: all of them (websearch_to_tsquery, with its
// phrases and "or"), and any of them, since questions seldom find every word
// of theirs in one passage. Any ranks below all. Note that ts_rank_cd knows
// nothing of how rare a word is: it is not BM25.
const searchSQL = `
WITH words AS NOT MATERIALIZED (
    SELECT websearch_to_tsquery($3::regconfig, $4) AS every,
           regexp_replace(websearch_to_tsquery($3::regconfig, $4)::text, ' (&|<->|<\d+>) ', ' | ', 'g')::tsquery AS any
), nearest AS MATERIALIZED (
    SELECT id, embedding <=> $2::halfvec AS distance
    FROM chunks
    WHERE collection_id = $1::uuid AND $5::boolean %[1]s
    ORDER BY embedding <=> $2::halfvec
    LIMIT $7
), matched AS MATERIALIZED (
    SELECT id, lexemes @@ words.every AS every, ts_rank_cd(lexemes, words.any, 1) AS weight
    FROM words, chunks
    WHERE collection_id = $1::uuid AND $6::boolean AND lexemes @@ words.any %[1]s
    ORDER BY every DESC, weight DESC, id
    LIMIT $7
), fused AS (
    SELECT id, coalesce(v.rank, 0) AS vector, coalesce(l.rank, 0) AS lexical,
           coalesce(1 / (60 + v.rank)::float8, 0) + coalesce(1 / (60 + l.rank)::float8, 0) AS score
    FROM (SELECT id, row_number() OVER (ORDER BY distance, id) AS rank FROM nearest) v
    FULL JOIN (SELECT id, row_number() OVER (ORDER BY every DESC, weight DESC, id) AS rank FROM matched) l USING (id)
    ORDER BY score DESC, v.rank NULLS LAST, id
    LIMIT $8
)
SELECT c.id, d.id::text, d.name, d.source, c.text, c.start_offset, c.end_offset, c.page, c.heading_path,
       c.tokens, f.score, coalesce(1 - (c.embedding <=> $2::halfvec), 0), c.lexemes @@ words.every, f.vector, f.lexical
FROM words, fused f JOIN chunks c USING (id) JOIN documents d ON d.id = c.document_id
ORDER BY f.score DESC, f.vector = 0, f.vector, c.id`

// byMetadata narrows a list to some documents. IS TRUE keeps the planner from
// making a join of it: it stays a filter that looks every row up in a hash
// table, and the vector list keeps its index.
const byMetadata = `AND (document_id IN (SELECT id FROM documents WHERE collection_id = $1::uuid AND %s)) IS TRUE`

// statement returns the SQL of a search and its arguments.
func statement(q Query, c collection, filter []condition, vector []float32) (string, []any) {
	var embedding any
	if vector != nil {
		embedding = pgvector.NewHalfVector(vector)
	}
	args := []any{c.id, embedding, c.language, plainDashes(q.Text), q.Mode != Lexical, q.Mode != Vector, candidates(q.Limit), fetched(q.Limit)}
	if len(filter) == 0 {
		return fmt.Sprintf(searchSQL, ""), args
	}
	clauses := make([]string, len(filter))
	for i, f := range filter {
		args = append(args, f.key, f.value)
		clauses[i] = fmt.Sprintf(operators[f.op], fmt.Sprintf("$%d::text", len(args)-1), fmt.Sprintf("$%d", len(args)))
	}
	return fmt.Sprintf(searchSQL, fmt.Sprintf(byMetadata, strings.Join(clauses, " AND "))), args
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

// fetched is how many passages to read for limit of them to remain after
// those that repeat others are dropped.
func fetched(limit int) int { return min(2*limit+10, 2*candidates(limit)) }
