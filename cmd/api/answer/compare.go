package answer

import (
	"context"
	"errors"
	"time"

	"lessrag/cmd/api/remote"
	"lessrag/decode/cache"
	"lessrag/retrieve"
)

// Reading names a way to read the passages: a cache of the local reader, or
// the remote model.
type Reading struct {
	Cache  string // cache.Spec as text; "" for the remote model
	Budget string // cache.Budget as text; "" for the default
	Remote bool
}

// Comparison is one question with the same prompt read in several ways.
type Comparison struct {
	Question    string             `json:"question"`
	Collection  string             `json:"collection"`
	Passages    []retrieve.Passage `json:"passages"`
	RetrievalMS float64            `json:"retrieval_ms"`
	Dropped     int                `json:"dropped_passages"`
	Columns     []Column           `json:"columns"`
	Prompt      []int32            `json:"-"` // what the local readings read; nil where the question was refused
}

// Column is what one reading gave. A failed one has an Error and does not
// touch the others.
type Column struct {
	Reader    string              `json:"reader"` // the model's name
	Remote    bool                `json:"remote"`
	Answer    string              `json:"answer"`
	Citations []retrieve.Citation `json:"citations"`
	Report
	Cost         *float64 `json:"cost,omitempty"` // of a remote answer, where prices are configured
	FinishReason string   `json:"finish_reason"`
	Error        *Failure `json:"error,omitempty"`
}

// Readings are what a comparison compares when nothing else is asked for: the
// default cache, the full one, and the remote model where there is one.
func (s *Service) Readings() []Reading {
	all := []Reading{{Cache: s.Defaults.Cache, Budget: s.Defaults.Budget}}
	if s.Defaults.Cache != cache.Full {
		all = append(all, Reading{Cache: cache.Full})
	}
	if s.Remote != nil {
		all = append(all, Reading{Remote: true})
	}
	return all
}

// Compare reads the same passages in every way asked for, Readings where
// readings is empty. Local ones run one after the other, so that none slows
// another; the remote one runs beside them. q's own Cache and Budget are not
// looked at. done, when set, is told of every column that has ended. Errors are
// those of Ask; a reading that fails later has them in its column.
func (s *Service) Compare(ctx context.Context, q Question, readings []Reading, done func(Column)) (Comparison, error) {
	start := time.Now()
	if len(readings) == 0 {
		readings = s.Readings()
	}
	plans, err := s.checkReadings(q, readings)
	if err != nil {
		return Comparison{}, err
	}
	query, _ := plans[0].query()
	results, err := s.Searcher.Search(ctx, query)
	if err != nil {
		return Comparison{}, err
	}
	c := Comparison{Question: plans[0].text, Collection: plans[0].collection,
		Passages: results.Passages, RetrievalMS: ms(time.Since(start)), Columns: make([]Column, len(readings))}
	if !retrieve.Relevant(results.Passages, s.Defaults.MinSimilarity) {
		for i := range c.Columns {
			c.Columns[i] = s.column(readings[i], plans[i])
			c.Columns[i].Answer, c.Columns[i].FinishReason = retrieve.RefusalText, FinishRefused
		}
		return c, nil
	}
	written, err := s.prompt(narrowest(plans), results.Passages)
	if err != nil {
		return Comparison{}, err
	}
	c.Passages, c.Dropped, c.Prompt = written.passages, written.dropped, written.tokens
	s.readAll(ctx, &c, readings, plans, written, done)
	return c, ctx.Err()
}

// checkReadings checks the question once for every reading.
func (s *Service) checkReadings(q Question, readings []Reading) ([]plan, error) {
	var plans []plan
	for _, reading := range readings {
		if reading.Remote {
			if s.Remote == nil {
				return nil, &InvalidError{[]FieldError{{"remote", "is not configured: start the server with " + remote.EnvURL + " and " + remote.EnvModel}}}
			}
			reading.Cache, reading.Budget = cache.Full, "" // the same checks, and room for the same prompt
		}
		q.Cache, q.Budget = reading.Cache, reading.Budget
		p, err := s.Defaults.check(q, s.reader())
		if err != nil {
			return nil, err
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// narrowest is the question with the room of all plans: what fits there fits
// everywhere, so that all read the same.
func narrowest(plans []plan) plan {
	p := plans[0]
	for _, other := range plans[1:] {
		p.context, p.room = min(p.context, other.context), min(p.room, other.room)
	}
	return p
}

// readAll fills every column. done is never called twice at a time.
func (s *Service) readAll(ctx context.Context, c *Comparison, readings []Reading, plans []plan, written prompt, done func(Column)) {
	elsewhere := make(chan int)
	far := 0
	for i, reading := range readings {
		if reading.Remote {
			far++
			go func() {
				c.Columns[i] = s.readFar(ctx, plans[i], c.Passages)
				elsewhere <- i
			}()
		}
	}
	tell := func(i int) {
		if done != nil {
			done(c.Columns[i])
		}
	}
	for i, reading := range readings {
		if !reading.Remote {
			c.Columns[i] = s.readHere(ctx, reading, plans[i], written, c.Passages)
			tell(i)
		}
	}
	for range far {
		tell(<-elsewhere)
	}
}

// column is what is known of a reading before it began.
func (s *Service) column(reading Reading, p plan) Column {
	c := Column{Reader: s.Engine.Info().Name, Citations: []retrieve.Citation{}, Report: Report{Memory: p.memory}}
	if reading.Remote {
		c.Reader, c.Remote, c.Memory = s.Remote.Name(), true, Memory{}
	}
	return c
}

// readHere reads the prompt with the local reader and one cache.
func (s *Service) readHere(ctx context.Context, reading Reading, p plan, written prompt, passages []retrieve.Passage) Column {
	column := s.column(reading, p)
	fail := func(err error) Column {
		if ctx.Err() != nil {
			column.FinishReason = FinishCancelled
			return column
		}
		column.FinishReason, column.Error = FinishError, failureOf(err)
		return column
	}
	if err := s.admit(p.memory.BudgetBytes); err != nil {
		return fail(err)
	}
	defer s.left()
	start := time.Now()
	chunks, stop, err := s.submit(ctx, p, written, nil)
	s.reached()
	if err != nil {
		return fail(err)
	}
	defer stop()
	run := newRun(p, stop)
	reason, err := read(run, chunks, stop, passages, s.quote(ctx, p.text, passages), column.Report, start)
	record := run.Record()
	column.Answer, column.Citations, column.Report, column.FinishReason = record.Answer, record.Citations, record.Report, reason
	if err != nil {
		return fail(err)
	}
	return column
}

// readFar lets the remote model read the same passages.
func (s *Service) readFar(ctx context.Context, p plan, passages []retrieve.Passage) Column {
	column := s.column(Reading{Remote: true}, p)
	var messages []remote.Message
	for _, m := range retrieve.Prompt(p.text, passages) {
		messages = append(messages, remote.Message(m))
	}
	citer := retrieve.NewCiter(passages)
	show := func(text string, cites []retrieve.Citation) {
		column.Answer += text
		column.Citations = append(column.Citations, cites...)
	}
	a, err := s.Remote.Answer(ctx, messages, p.maxTokens, float64(p.sampling.Temperature), func(text string) {
		show(citer.Push(storable(text)))
	})
	show(citer.Flush())
	column.Usage = Usage{PromptTokens: a.PromptTokens, CompletionTokens: a.CompletionTokens}
	column.Cost, column.FinishReason = a.Cost, a.FinishReason
	column.Timing.TTFTMS, column.Timing.DecodeMS = ms(a.TTFT), ms(a.Total-a.TTFT)
	if n := a.CompletionTokens - 1; n > 0 && a.Total > a.TTFT {
		column.Timing.TokensPerSecond = float64(n) / (a.Total - a.TTFT).Seconds()
	}
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		column.FinishReason = FinishCancelled
	default:
		column.FinishReason, column.Error = FinishError, &Failure{"remote", err.Error()}
	}
	return column
}
