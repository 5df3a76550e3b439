-- +goose Up
CREATE TABLE conversations (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A run is one answered question, stored as it was streamed.
CREATE TABLE runs (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    question        text NOT NULL,
    answer          text NOT NULL,
    record          jsonb NOT NULL,            -- the whole response of POST /api/v1/chat
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX runs_conversation ON runs (conversation_id, created_at);

-- +goose Down
DROP TABLE runs, conversations;
