package answer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"lessrag/retrieve"
)

// NotFoundError says which thing a question or a request named in vain.
type NotFoundError struct{ What, Name string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("no %s %q", e.What, e.Name) }

// open finds the collection and the conversation, or starts one, and draws
// the run's id. Errors: *NotFoundError or the database's.
func (s *Service) open(ctx context.Context, p *plan, conversation string) error {
	var found bool
	if err := s.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM collections WHERE name = $1)`, p.collection).Scan(&found); err != nil {
		return fmt.Errorf("look up the collection: %w", err)
	}
	if !found {
		return &NotFoundError{"collection", p.collection}
	}
	if conversation == "" {
		err := s.Pool.QueryRow(ctx, `INSERT INTO conversations DEFAULT VALUES RETURNING id::text, gen_random_uuid()::text`).
			Scan(&p.conversation, &p.run)
		if err != nil {
			return fmt.Errorf("start a conversation: %w", err)
		}
		return nil
	}
	id, ok := parseID(conversation)
	if !ok {
		return &NotFoundError{"conversation", conversation}
	}
	err := s.Pool.QueryRow(ctx, `SELECT id::text, gen_random_uuid()::text FROM conversations WHERE id = $1`, id).
		Scan(&p.conversation, &p.run)
	if errors.Is(err, pgx.ErrNoRows) {
		return &NotFoundError{"conversation", conversation}
	}
	if err != nil {
		return fmt.Errorf("look up the conversation: %w", err)
	}
	p.turns, err = s.turns(ctx, id)
	return err
}

// history is the tokens of earlier turns that a reader with this context is shown.
func (d Defaults) history(context int) int { return cmp.Or(d.HistoryTokens, context) }

// turns returns the newest turns of a conversation that fit into
// HistoryTokens together, oldest first.
func (s *Service) turns(ctx context.Context, conversation pgtype.UUID) ([]retrieve.Turn, error) {
	rows, err := s.Pool.Query(ctx, `
		SELECT question, answer, coalesce(record->'passages', '[]'), coalesce((record->>'given')::int, 0) FROM runs
		WHERE conversation_id = $1 AND answer <> '' AND record->>'finish_reason' IN ('stop', 'length')
		ORDER BY created_at DESC LIMIT 20`, conversation)
	if err != nil {
		return nil, fmt.Errorf("read the conversation: %w", err)
	}
	turns, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t retrieve.Turn, err error) {
		var given int
		if err = row.Scan(&t.Question, &t.Answer, &t.Passages, &given); err == nil {
			t.Passages = t.Passages[min(given, len(t.Passages)):]
		}
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the conversation: %w", err)
	}
	return recent(turns, s.Engine.Tokenizer(), s.Defaults.history(s.Engine.Info().Context)), nil
}

// recent keeps the turns, newest first, that fit into budget tokens together,
// passages included, and returns them oldest first.
func recent(newestFirst []retrieve.Turn, tokens retrieve.TokenCounter, budget int) []retrieve.Turn {
	var kept []retrieve.Turn
	for _, t := range newestFirst {
		budget -= tokens.Count(t.Question) + tokens.Count(t.Answer)
		for _, p := range t.Passages {
			budget -= tokens.Count(p.Text)
		}
		if budget < 0 {
			break
		}
		kept = append([]retrieve.Turn{t}, kept...)
	}
	return kept
}

// store keeps the record of a run that has ended.
func (s *Service) store(ctx context.Context, r Record) error {
	record, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the run: %w", err)
	}
	_, err = s.Pool.Exec(ctx, `INSERT INTO runs (id, conversation_id, question, answer, record) VALUES ($1, $2, $3, $4, $5)`,
		r.RunID, r.ConversationID, r.Question, r.Answer, record)
	if err != nil {
		return fmt.Errorf("store the run: %w", err)
	}
	return nil
}

// Record returns a run's record: of one that runs now, so far; of an ended
// one, as stored. Errors: *NotFoundError or the database's.
func (s *Service) Record(ctx context.Context, id string) (Record, error) {
	if r, ok := s.Run(id); ok {
		return r.Record(), nil
	}
	uuid, ok := parseID(id)
	if !ok {
		return Record{}, &NotFoundError{"run", id}
	}
	var data []byte
	err := s.Pool.QueryRow(ctx, `SELECT record FROM runs WHERE id = $1`, uuid).Scan(&data)
	if errors.Is(err, pgx.ErrNoRows) {
		return Record{}, &NotFoundError{"run", id}
	}
	if err != nil {
		return Record{}, fmt.Errorf("read the run: %w", err)
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("read the run: %w", err)
	}
	return r, nil
}

// parseID reads a UUID; what is none names nothing.
func parseID(text string) (id pgtype.UUID, ok bool) {
	err := id.Scan(text)
	return id, err == nil
}
