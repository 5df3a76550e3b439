package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"lessrag/cmd/api/answer"
)

// retryQueue is when to try again after a full queue that names no time.
const retryQueue = time.Second

// retryUnready is when to try again after the decoder has lost its device.
const retryUnready = 30 * time.Second

type runInput struct {
	ID string `path:"id" doc:"The run's id"`
}

type runEventsInput struct {
	ID          string `path:"id" doc:"The run's id"`
	LastEventID string `header:"Last-Event-ID" doc:"The last event that was seen; the stream goes on after it"`
}

// gap tells a reader that came back too late which events it missed; the
// stored run has all that they said.
type gap struct {
	After int64  `json:"after"` // the last event that was seen
	Next  int64  `json:"next"`  // the next one that comes, 0 for none
	Run   string `json:"run"`   // where the whole answer is, once it has ended
}

func (s *Server) runs(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "get-run", Method: http.MethodGet, Path: "/api/v1/runs/{id}", Tags: []string{"answers"},
		Summary: "An answer as stored; its finish_reason is empty while it runs", Errors: []int{404},
	}, func(ctx context.Context, in *runInput) (*struct{ Body answer.Record }, error) {
		record, err := s.Answers.Record(ctx, in.ID)
		if err != nil {
			return nil, s.problem(err)
		}
		return &struct{ Body answer.Record }{record}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "cancel-run", Method: http.MethodPost, Path: "/api/v1/runs/{id}/cancel", Tags: []string{"answers"},
		Summary: "Stop an answer; what has been said is kept", DefaultStatus: http.StatusAccepted, Errors: []int{404},
	}, func(ctx context.Context, in *runInput) (*struct{ Body answer.Record }, error) {
		if run, ok := s.Answers.Run(in.ID); ok {
			run.Cancel()
			select {
			case <-run.Ended():
			case <-ctx.Done():
			}
		}
		record, err := s.Answers.Record(ctx, in.ID)
		if err != nil {
			return nil, s.problem(err)
		}
		return &struct{ Body answer.Record }{record}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "run-events", Method: http.MethodGet, Path: "/api/v1/runs/{id}/events", Tags: []string{"answers"},
		Summary: "Follow an answer from the event after Last-Event-ID",
		Description: "The events of POST /api/v1/chat, those that have been sent included. Events that are no longer kept are " +
			"answered by one event named gap, with where to go on.",
		Responses: eventStream("The answer's events"), Errors: []int{404, 422},
	}, func(ctx context.Context, in *runEventsInput) (*huma.StreamResponse, error) {
		after, err := lastEvent(in.LastEventID)
		if err != nil {
			return nil, err
		}
		run, running := s.Answers.Run(in.ID)
		if !running {
			if _, err := s.Answers.Record(ctx, in.ID); err != nil {
				return nil, s.problem(err)
			}
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humachi.Unwrap(hc)
			events := openStream(w, s.WriteWithin)
			if !running {
				_ = events.event(0, "gap", gap{after, 0, "/api/v1/runs/" + in.ID})
				return
			}
			defer s.audience.join(run)()
			s.follow(r.Context(), events, run, after)
		}}, nil
	})
}

// lastEvent reads the id that a reader saw last.
func lastEvent(header string) (int64, error) {
	if header == "" {
		return 0, nil
	}
	id, err := strconv.ParseInt(header, 10, 64)
	if err != nil || id < 0 {
		return 0, (&Problem{Status: http.StatusUnprocessableEntity, Detail: "the event to go on from was refused",
			Errors: []FieldDetail{{"header.Last-Event-ID", "must be the id of an event"}}}).complete()
	}
	return id, nil
}

// follow sends a run's events after the given one until it ends, the reader
// goes away, or the reader is slower than a write may be. While nothing
// happens, in retrieval and prefill too, a comment says that the stream lives.
func (s *Server) follow(ctx context.Context, to *stream, run *answer.Run, after int64) {
	for to.err == nil {
		wait, cancel := context.WithTimeout(ctx, s.Heartbeat)
		events, err := run.Next(wait, after)
		cancel()
		var missed *answer.GapError
		switch {
		case err == nil:
			for _, e := range events {
				if to.event(e.ID, e.Name, e.Data) != nil {
					break
				}
				after = e.ID
			}
		case errors.As(err, &missed):
			_ = to.event(0, "gap", gap{missed.After, missed.Next, "/api/v1/runs/" + run.ID})
			after = missed.Next - 1
		case errors.Is(err, io.EOF) || ctx.Err() != nil:
			return
		default:
			_ = to.heartbeat()
		}
	}
	if ctx.Err() == nil {
		s.Log.WarnContext(ctx, "stream ended: its reader is gone or too slow", "run", run.ID, "after", after, "error", to.err)
	}
}

// audience counts the readers of runs. A run that has had none for the linger
// is cancelled: nobody is coming back for it.
type audience struct {
	linger time.Duration
	mu     sync.Mutex
	seats  map[*answer.Run]*seats
}

type seats struct {
	readers int
	empty   *time.Timer // running while readers is 0
}

// join counts one reader of a run in; what it returns counts it out.
func (a *audience) join(run *answer.Run) (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seats == nil {
		a.seats = make(map[*answer.Run]*seats)
	}
	s := a.seats[run]
	if s == nil {
		s = &seats{}
		a.seats[run] = s
	}
	s.readers++
	if s.empty != nil {
		s.empty.Stop()
	}
	return func() { a.leave(run, s) }
}

func (a *audience) leave(run *answer.Run, s *seats) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.readers--; s.readers > 0 {
		return
	}
	select {
	case <-run.Ended():
		delete(a.seats, run)
		return
	default:
	}
	s.empty = time.AfterFunc(a.linger, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if s.readers == 0 {
			run.Cancel()
			delete(a.seats, run)
		}
	})
}
