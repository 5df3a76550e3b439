-- +goose Up
CREATE EXTENSION IF NOT EXISTS vector;

-- A collection records the model that embedded it: vectors of another model are refused.
CREATE TABLE collections (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name       text NOT NULL UNIQUE,
    embedder   text NOT NULL,
    dimensions int NOT NULL,
    language   regconfig NOT NULL DEFAULT 'english',
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A document is a state machine: queued, extracting, chunking, embedding, then ready or failed.
-- Its chunks are those of the last version that became ready.
CREATE TABLE documents (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    collection_id uuid NOT NULL REFERENCES collections ON DELETE CASCADE,
    name          text NOT NULL,
    source        text NOT NULL DEFAULT '',
    media_type    text NOT NULL DEFAULT '',
    metadata      jsonb NOT NULL DEFAULT '{}',
    hash          bytea NOT NULL,              -- SHA-256 of the content last submitted; stays on failure
    bytes         bigint NOT NULL,
    version       int NOT NULL DEFAULT 1,      -- rises with every submission and retry; a job of an older one is void
    state         text NOT NULL DEFAULT 'queued'
                  CHECK (state IN ('queued', 'extracting', 'chunking', 'embedding', 'ready', 'failed')),
    stage         text NOT NULL DEFAULT '',    -- where it failed, or where it is
    error         text NOT NULL DEFAULT '',
    chunks        int NOT NULL DEFAULT 0,      -- visible ones: those of the last version that became ready
    done          real NOT NULL DEFAULT 0,     -- share of the pending version embedded so far, 0…1
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    queued_at     timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,                 -- of the last attempt
    finished_at   timestamptz,                 -- when it last became ready or failed
    UNIQUE (collection_id, name),
    UNIQUE (collection_id, hash)
);
CREATE INDEX documents_listing ON documents (collection_id, created_at, id);
CREATE INDEX documents_listing_all ON documents (created_at, id);
CREATE INDEX documents_pending ON documents (queued_at) WHERE state NOT IN ('ready', 'failed');
CREATE INDEX documents_finished ON documents (finished_at);

-- Bodies stand apart so that listings never read them.
CREATE TABLE document_bodies (
    document_id uuid PRIMARY KEY REFERENCES documents ON DELETE CASCADE,
    content     bytea NOT NULL,                -- as submitted, kept for retries
    text        text NOT NULL DEFAULT ''       -- as extracted; chunk offsets point into it
);

CREATE TABLE chunks (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document_id   uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    collection_id uuid NOT NULL,
    ordinal       int NOT NULL,                -- 0, 1, … inside the document
    text          text NOT NULL,
    start_offset  int NOT NULL,                -- bytes into document_bodies.text
    end_offset    int NOT NULL,
    page          int,                         -- for formats that have pages
    heading_path  text[] NOT NULL DEFAULT '{}',
    tokens        int NOT NULL,                -- counted by the decoder's tokenizer
    embedding     halfvec(384) NOT NULL,
    lexemes       tsvector NOT NULL,
    UNIQUE (document_id, ordinal)
);
CREATE INDEX chunks_embedding ON chunks USING hnsw (embedding halfvec_cosine_ops);
CREATE INDEX chunks_lexemes ON chunks USING gin (lexemes);
CREATE INDEX chunks_collection ON chunks (collection_id);

-- An ingestion is one submission: the documents that came in together.
CREATE TABLE ingestions (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    collection_id uuid NOT NULL REFERENCES collections ON DELETE CASCADE,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE ingestion_documents (
    ingestion_id uuid NOT NULL REFERENCES ingestions ON DELETE CASCADE,
    document_id  uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    duplicate    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (ingestion_id, document_id)
);
CREATE INDEX ingestion_documents_document ON ingestion_documents (document_id);

-- +goose Down
DROP TABLE ingestion_documents, ingestions, chunks, document_bodies, documents, collections;
