package retrieve

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// aroundSQL reads for each of some chunks those before and after it that stand under the same headings, on
// either side up to so many tokens.
const aroundSQL = `
WITH near AS (
    SELECT c.id AS found, n.id, sum(n.tokens) OVER (PARTITION BY c.id, n.ordinal > c.ordinal ORDER BY abs(n.ordinal - c.ordinal)) AS tokens
    FROM chunks c JOIN chunks n ON n.document_id = c.document_id AND n.ordinal BETWEEN c.ordinal - $2 AND c.ordinal + $2
        AND n.id <> c.id AND n.heading_path = c.heading_path
    WHERE c.id = ANY ($1::bigint[])
)
SELECT found, n.document_id::text, n.text, n.start_offset, n.end_offset, n.page, n.tokens, n.ordinal
FROM near JOIN chunks n USING (id) WHERE near.tokens <= $3`

// smallChunk is the tokens of a chunk below which there are few: so many chunks as have them together
// are looked at on either side.
const smallChunk = 64

// around reads what is around the first chunks found, more of them than may become places.
func (s *Searcher) around(ctx context.Context, q Query, found []Passage) (map[int64][]Passage, error) {
	ids := make([]int64, min(len(found), 2*q.Limit))
	for i := range ids {
		ids[i] = found[i].ID
	}
	rows, err := s.pool.Query(ctx, aroundSQL, ids, 1+q.Widen/smallChunk, q.Widen)
	if err != nil {
		return nil, err
	}
	near, id, n := map[int64][]Passage{}, int64(0), Passage{}
	_, err = pgx.ForEachRow(rows, []any{&id, &n.DocumentID, &n.Text, &n.Start, &n.End, &n.Page, &n.Tokens, &n.ordinal}, func() error {
		n.last = n.ordinal
		near[id] = append(near[id], n)
		return nil
	})
	return near, err
}

// widen adds to a chunk the nearest of those around it, one after and one before it in turn, as long as there are
// some that no place found before it has, and most tokens allow.
func (p *Passage) widen(around, kept []Passage, most int) {
	next := func(ordinal int) *Passage {
		i := slices.IndexFunc(around, func(n Passage) bool { return n.ordinal == ordinal })
		if i < 0 || p.Tokens+around[i].Tokens > most || slices.ContainsFunc(kept, func(k Passage) bool { return k.holds(around[i]) }) {
			return nil
		}
		return &around[i]
	}
	after, before := true, true
	for after || before {
		if after {
			n := next(p.last + 1)
			if after = n != nil; after {
				p.Text += text(p.End, *n)
				p.End, p.last, p.Tokens = n.End, n.ordinal, p.Tokens+n.Tokens
			}
		}
		if before {
			n := next(p.ordinal - 1)
			if before = n != nil; before {
				p.Text = n.Text + text(n.End, *p)
				p.Start, p.ordinal, p.Page, p.Tokens = n.Start, n.ordinal, n.Page, p.Tokens+n.Tokens
			}
		}
	}
}

// text is what a passage adds to one that ends there: chunks of a section may share some, and between
// them was only space.
func text(end int, p Passage) string {
	return strings.Repeat("\n", max(p.Start-end, 0)) + p.Text[max(end-p.Start, 0):]
}

// holds tells whether the chunks of n are among those of p.
func (p *Passage) holds(n Passage) bool {
	return p.DocumentID == n.DocumentID && p.ordinal <= n.ordinal && n.last <= p.last
}

// takes tells whether a chunk that was found is in a place already, which then has the better of both.
func (p *Passage) takes(n Passage) bool {
	if !p.holds(n) {
		return false
	}
	p.AllTerms = p.AllTerms || n.AllTerms
	p.Similarity = max(p.Similarity, n.Similarity)
	return true
}
