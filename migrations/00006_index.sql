-- +goose Up
-- New passages look for neighbours among more candidates: with pgvector's 64 the index lost the nearest passage of
-- one question in twenty where one collection is an island among others. What is indexed already stays as it is
-- until REINDEX INDEX CONCURRENTLY chunks_embedding. There is no index while many passages come in (ingest/index.go).
ALTER INDEX IF EXISTS chunks_embedding SET (ef_construction = 200);

-- +goose Down
ALTER INDEX IF EXISTS chunks_embedding RESET (ef_construction);
