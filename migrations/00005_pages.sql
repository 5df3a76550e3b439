-- +goose Up
-- A page of the web is a document whose content a worker gets. address is the page's while that is to be done.
-- ready_hash is that of the content which the visible passages are of: a page that comes unchanged is told by it.
ALTER TABLE documents
    ADD COLUMN address    text NOT NULL DEFAULT '',
    ADD COLUMN ready_hash bytea;
UPDATE documents SET ready_hash = hash WHERE state = 'ready';

-- +goose Down
ALTER TABLE documents DROP COLUMN address, DROP COLUMN ready_hash;
