// Package answer is the way of one question: find passages, refuse honestly
// or read them with the decoder, check every citation, account for the memory
// and store the run. The server streams its events, `api ask` prints them.
package answer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"lessrag/cmd/api/remote"
	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/retrieve"
)

// keptRuns is how many ended runs stay in memory for readers that come back.
const keptRuns = 32

// storeTimeout bounds the write of a run whose question is already gone.
const storeTimeout = 10 * time.Second

// Service answers questions. Its fields are set before the first question and
// not changed after; it is safe for concurrent use.
type Service struct {
	Searcher    *retrieve.Searcher
	Engine      *decode.Engine
	Pool        *pgxpool.Pool
	Defaults    Defaults
	BlendShare  float64       // of passages that were read before: what is computed anew of them; 0: all are read in every prompt
	BlendMemory float64       // above 0: the share of a passage's bytes that is kept, for caches that remember passages
	Remote      *remote.Model // what Compare compares with; nil where none is configured
	Log         *slog.Logger
	Ended       func(Record) // told of every run that has ended, when set; must not block

	mu     sync.Mutex
	runs   map[string]*Run
	old    []string // ended runs, oldest first, at most keptRuns
	active int      // runs that have not ended
	asking int      // of them, those that have not reached the engine
}

// Ask checks a question, admits it and starts its run, which ctx can stop.
// Whatever is wrong with the question is said here, before the first event:
// *InvalidError, *NotFoundError (collection or conversation) or
// *decode.QueueFullError; later failures end the run with an error event.
func (s *Service) Ask(ctx context.Context, q Question) (*Run, error) {
	start := time.Now()
	p, err := s.Defaults.check(q, s.reader())
	if err != nil {
		return nil, err
	}
	if err := s.admit(p.memory.BudgetBytes); err != nil {
		return nil, err
	}
	if err := s.open(ctx, &p, q.ConversationID); err != nil {
		s.reached()
		s.left()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := newRun(p, cancel)
	s.keep(r)
	go s.run(ctx, r, p, start)
	return r, nil
}

func (s *Service) reader() reader {
	return reader{s.Engine.Info().Context, s.Engine.Info().CacheMemory, s.Engine.Tokenizer(), s.Engine.Plan}
}

// Check tells what is wrong with the defaults themselves: a question that
// leaves everything out must pass.
func (s *Service) Check() error {
	_, err := s.Defaults.check(Question{Text: "Why?"}, s.reader())
	return err
}

// run takes a question to its last event.
func (s *Service) run(ctx context.Context, r *Run, p plan, start time.Time) {
	defer r.cancel()
	reason, err := s.answer(ctx, r, p, start)
	if errors.Is(err, context.Canceled) || ctx.Err() != nil {
		reason, err = FinishCancelled, nil
	}
	var failure *Failure
	if err != nil {
		reason, failure = FinishError, failureOf(err)
		s.Log.ErrorContext(ctx, "run failed", "run", r.ID, "error", err)
	}
	record := r.finish(reason, failure)

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := s.store(ctx, record); err != nil && failure == nil {
		failure = &Failure{"not_stored", "the answer is complete, but it could not be stored"}
		record = r.finish(FinishError, failure)
		s.Log.ErrorContext(ctx, "run not stored", "run", r.ID, "error", err)
	}
	if s.Ended != nil {
		s.Ended(record)
	}
	if failure != nil {
		r.emit(EventError, *failure)
	} else {
		r.emit(EventDone, Done{reason})
	}
	s.forget(r)
	r.close()
}

// answer searches, packs, reads and cites; it returns why the answer ended.
func (s *Service) answer(ctx context.Context, r *Run, p plan, start time.Time) (reason string, err error) {
	reached := sync.OnceFunc(s.reached)
	defer reached()

	found, searched, err := s.find(ctx, p)
	if err != nil {
		return "", err
	}
	report := Report{Memory: p.memory, Timing: Timing{RetrievalMS: ms(time.Since(start))}}
	if !retrieve.Relevant(found, s.Defaults.MinSimilarity) {
		r.emit(EventRetrieval, Retrieval{r.ID, p.conversation, found, 0, searched, report.Timing.RetrievalMS, report.Memory})
		r.emit(EventDelta, Delta{retrieve.RefusalText})
		r.emit(EventUsage, report)
		return FinishRefused, nil
	}
	written, err := s.prompt(p, found)
	if err != nil {
		return "", err
	}
	if report.Memory.BudgetBytes == 0 { // a full cache: what prompt and answer need
		needed, err := s.Engine.Plan(p.spec, cache.Budget{Tokens: len(written.tokens) + p.maxTokens})
		if err != nil {
			return "", err
		}
		report.Memory.BudgetBytes = needed.Bytes
	}
	report.Memory.DroppedPassages = written.dropped
	r.emit(EventRetrieval, Retrieval{r.ID, p.conversation, written.passages, written.given, searched, report.Timing.RetrievalMS, report.Memory})

	blend, err := s.blend(p, written)
	if err != nil {
		return "", err
	}
	chunks, stop, err := s.submit(ctx, p, written, blend)
	if err != nil {
		return "", err
	}
	defer stop()
	reached()
	return read(r, chunks, stop, written.passages, s.quote(ctx, p.text, written.passages), report, start)
}

// submit gives the engine what was written. stop ends the decoding alone: ctx, and with it the
// search for a quote, goes on.
func (s *Service) submit(ctx context.Context, p plan, written prompt, blend *decode.Blend) (chunks <-chan decode.Chunk, stop context.CancelFunc, err error) {
	ctx, stop = context.WithCancel(ctx)
	chunks, err = s.Engine.Submit(ctx, decode.Request{
		Prompt: written.tokens, Question: written.question, Blend: blend, Cache: p.spec, Budget: p.budget,
		MaxTokens: p.maxTokens, Stop: retrieve.Stops, Sampling: p.sampling,
	})
	if err != nil {
		stop()
		return nil, nil, err
	}
	return chunks, stop, nil
}

// quote is the quoter of one question. Without its embedder there is no quote,
// and the answer stands as it is.
func (s *Service) quote(ctx context.Context, question string, passages []retrieve.Passage) quoter {
	return func(answer string) (retrieve.Citation, bool) {
		c, found, err := s.Searcher.Quote(ctx, question, answer, len(answer), passages)
		if err != nil {
			s.Log.WarnContext(ctx, "no quote", "error", err)
		}
		return c, found && err == nil
	}
}
