-- +goose Up
-- A document has names: the one that it is shown by, and those of other files with the same content. So a file
-- that becomes a copy of another, and two that swap their contents, need no text to be embedded again.
CREATE TABLE document_names (
    collection_id uuid NOT NULL REFERENCES collections ON DELETE CASCADE,
    name          text NOT NULL,
    document_id   uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    source        text NOT NULL DEFAULT '',
    metadata      jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (collection_id, name)
);
CREATE INDEX document_names_document ON document_names (document_id);
INSERT INTO document_names SELECT collection_id, name, id, source, metadata FROM documents;

-- Names are unique there; contents are not any more: a version that waits may have the content of another that waits.
ALTER TABLE documents
    DROP CONSTRAINT documents_collection_id_name_key,
    DROP CONSTRAINT documents_collection_id_hash_key;
CREATE INDEX documents_hash ON documents (collection_id, hash);

-- Settings of a collection; what is null is the service's.
ALTER TABLE collections
    ADD COLUMN chunk_tokens  int,
    ADD COLUMN chunk_max     int,
    ADD COLUMN chunk_overlap int;

ALTER TABLE chunks
    ADD COLUMN section_start int,              -- of the section that holds the passage, subsections included:
    ADD COLUMN section_end   int,              -- bytes into document_bodies.text; null for passages of before
    ADD COLUMN lead          text NOT NULL DEFAULT '', -- header of the table in whose middle the passage begins
    ADD COLUMN boxes         real[];           -- page, left, bottom, right, top of every line; points; null without pages

-- +goose Down
ALTER TABLE chunks DROP COLUMN section_start, DROP COLUMN section_end, DROP COLUMN lead, DROP COLUMN boxes;
ALTER TABLE collections DROP COLUMN chunk_tokens, DROP COLUMN chunk_max, DROP COLUMN chunk_overlap;
DROP INDEX documents_hash;
DELETE FROM documents d USING documents other WHERE d.collection_id = other.collection_id AND d.id > other.id AND (d.hash = other.hash OR d.name = other.name);
ALTER TABLE documents
    ADD CONSTRAINT documents_collection_id_name_key UNIQUE (collection_id, name),
    ADD CONSTRAINT documents_collection_id_hash_key UNIQUE (collection_id, hash);
DROP TABLE document_names;
