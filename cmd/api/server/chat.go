package server

import (
	"context"
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"lessrag/cmd/api/answer"
)

// chatInput is POST /api/v1/chat.
type chatInput struct {
	Accept string `header:"Accept" doc:"text/event-stream streams the answer"`
	Body   struct {
		Question       string   `json:"question" doc:"What to answer from the documents"`
		Collection     string   `json:"collection,omitempty" doc:"Where to look; the server may have a default"`
		ConversationID string   `json:"conversation_id,omitempty" doc:"Continues that conversation"`
		Cache          string   `json:"cache,omitempty" example:"sinks" doc:"Cache policy of the decoder"`
		Budget         string   `json:"budget,omitempty" example:"10%" doc:"Of the model's context, in tokens, or in bytes (16MiB)"`
		Limit          *int     `json:"limit,omitempty" minimum:"1" doc:"Passages to search for"`
		MaxTokens      *int     `json:"max_tokens,omitempty" minimum:"1" doc:"The longest answer"`
		Temperature    *float64 `json:"temperature,omitempty" doc:"0 always takes the likeliest token"`
		TopP           *float64 `json:"top_p,omitempty"`
		Seed           *int64   `json:"seed,omitempty"`
		Resumable      bool     `json:"resumable,omitempty" doc:"A stream that is cut goes on for a few seconds and can be taken up again at /api/v1/runs/{id}/events; without it, a client that goes away stops its answer"`
	}
}

func (in *chatInput) question() answer.Question {
	b := in.Body
	return answer.Question{
		Text: b.Question, Collection: b.Collection, ConversationID: b.ConversationID,
		Cache: b.Cache, Budget: b.Budget, Limit: deref(b.Limit), MaxTokens: deref(b.MaxTokens),
		Temperature: b.Temperature, TopP: b.TopP, Seed: b.Seed,
	}
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (s *Server) chat(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "chat", Method: http.MethodPost, Path: "/api/v1/chat", Tags: []string{"answers"},
		Summary: "Answer a question from the documents",
		Description: "JSON, or events when text/event-stream is accepted: retrieval, then deltas and citations, usage, and done; or an error, " +
			"which ends the stream. Ids rise by one from 1. Comments keep a silent stream alive.",
		Responses: map[string]*huma.Response{"200": {Description: "The answer", Content: map[string]*huma.MediaType{
			"application/json":  {Schema: schemaOf[answer.Record](api)},
			"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}},
		}}},
		Errors: []int{404, 409, 413, 422, 429, 500, 503},
	}, func(ctx context.Context, in *chatInput) (*huma.StreamResponse, error) {
		streams := wantsEvents(in.Accept)
		if streams && in.Body.Resumable {
			ctx = context.WithoutCancel(ctx) // the audience cancels it
		}
		run, err := s.Answers.Ask(ctx, in.question())
		if err != nil {
			return nil, s.problem(err)
		}
		if streams {
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				r, w := humachi.Unwrap(hc)
				defer s.audience.join(run)()
				s.follow(r.Context(), openStream(w, s.WriteWithin), run, 0)
			}}, nil
		}
		defer s.audience.join(run)()
		defer context.AfterFunc(ctx, run.Cancel)()
		<-run.Ended()
		record := run.Record()
		if f := record.Error; f != nil {
			return nil, failed(f)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := humachi.Unwrap(hc)
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(record) // a client that has gone misses it
		}}, nil
	})
}

// wantsEvents tells whether an Accept header names event streams.
func wantsEvents(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		if t, _, err := mime.ParseMediaType(part); err == nil && t == "text/event-stream" {
			return true
		}
	}
	return false
}

// failed is the problem for an answer that ended with an error event.
func failed(f *answer.Failure) *Problem {
	status := http.StatusInternalServerError
	switch f.Code {
	case "queue_full":
		return (&Problem{Status: http.StatusTooManyRequests, Detail: f.Message, retryAfter: retryQueue}).complete()
	case "not_ready":
		return (&Problem{Status: http.StatusServiceUnavailable, Detail: f.Message, retryAfter: retryUnready}).complete()
	case "embedder_mismatch":
		status = http.StatusConflict
	case "not_found":
		status = http.StatusNotFound
	case "no_room", "no_memory":
		status = http.StatusUnprocessableEntity
	}
	return (&Problem{Status: status, Detail: f.Message}).complete()
}
