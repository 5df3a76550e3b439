-- +goose Up
-- What BM25 must know of a collection: how many passages it has and their length, and how many of them hold each
-- word. Triggers keep both in the transaction that changes passages, whoever changes them. The row of totals is
-- written first: its lock lets one transaction at a time count for a collection.
CREATE TABLE lexicon_totals (
    collection_id uuid PRIMARY KEY,
    chunks        bigint NOT NULL,
    tokens        bigint NOT NULL              -- of all passages together
);
CREATE TABLE lexicon (
    collection_id uuid NOT NULL,
    lexeme        text NOT NULL,
    chunks        int NOT NULL,                -- that hold it; never 0
    PRIMARY KEY (collection_id, lexeme)
) WITH (fillfactor = 70);

INSERT INTO lexicon_totals SELECT collection_id, count(*), sum(tokens) FROM chunks GROUP BY collection_id;
INSERT INTO lexicon SELECT collection_id, lexeme, count(*) FROM chunks, unnest(tsvector_to_array(lexemes)) AS lexeme GROUP BY 1, 2;

-- +goose StatementBegin
CREATE FUNCTION count_lexemes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lexicon_totals AS t SELECT collection_id, count(*), sum(tokens) FROM added GROUP BY collection_id ORDER BY 1
    ON CONFLICT (collection_id) DO UPDATE SET chunks = t.chunks + excluded.chunks, tokens = t.tokens + excluded.tokens;
    INSERT INTO lexicon AS l SELECT collection_id, lexeme, count(*) FROM added, unnest(tsvector_to_array(lexemes)) AS lexeme GROUP BY 1, 2
    ON CONFLICT (collection_id, lexeme) DO UPDATE SET chunks = l.chunks + excluded.chunks;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION discount_lexemes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM removed) THEN
        RETURN NULL;
    END IF;
    UPDATE lexicon_totals t SET chunks = t.chunks - r.chunks, tokens = t.tokens - r.tokens
    FROM (SELECT collection_id, count(*) AS chunks, sum(tokens) AS tokens FROM removed GROUP BY collection_id) r
    WHERE t.collection_id = r.collection_id;
    DELETE FROM lexicon_totals t WHERE t.chunks = 0 AND t.collection_id IN (SELECT collection_id FROM removed);
    WITH gone AS MATERIALIZED (
        SELECT collection_id, lexeme, count(*) AS chunks FROM removed, unnest(tsvector_to_array(lexemes)) AS lexeme GROUP BY 1, 2
    ), last AS (
        DELETE FROM lexicon l USING gone g WHERE l.collection_id = g.collection_id AND l.lexeme = g.lexeme AND l.chunks <= g.chunks
    )
    UPDATE lexicon l SET chunks = l.chunks - g.chunks
    FROM gone g WHERE l.collection_id = g.collection_id AND l.lexeme = g.lexeme AND l.chunks > g.chunks;
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER chunks_counted AFTER INSERT ON chunks
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_lexemes();
CREATE TRIGGER chunks_discounted AFTER DELETE ON chunks
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION discount_lexemes();

-- +goose Down
DROP TRIGGER chunks_counted ON chunks;
DROP TRIGGER chunks_discounted ON chunks;
DROP FUNCTION count_lexemes();
DROP FUNCTION discount_lexemes();
DROP TABLE lexicon, lexicon_totals;
