package server

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"lessrag/ingest"
)

// progressEvery is how often a followed ingestion is looked at.
const progressEvery = 400 * time.Millisecond

// progress is an ingestion as clients see it.
type progress struct {
	ID        string            `json:"id"`
	Total     int               `json:"total"`
	Ready     int               `json:"ready"`
	Failed    int               `json:"failed"`
	Pending   int               `json:"pending"`
	ETA       *int64            `json:"eta_ms" doc:"null while no rate is known"`
	Documents []ingest.Document `json:"documents"`
}

type ingestionInput struct {
	ID string `path:"id" doc:"The ingestion's id"`
}

func (s *Server) ingestions(api huma.API) {
	tags := []string{"documents"}
	huma.Register(api, huma.Operation{
		OperationID: "get-ingestion", Method: http.MethodGet, Path: "/api/v1/ingestions/{id}", Tags: tags,
		Summary: "How far the documents that came in together are", Errors: []int{404},
	}, func(ctx context.Context, in *ingestionInput) (*struct{ Body progress }, error) {
		p, err := s.progress(ctx, in.ID)
		if err != nil {
			return nil, s.problem(err)
		}
		return &struct{ Body progress }{p}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "ingestion-events", Method: http.MethodGet, Path: "/api/v1/ingestions/{id}/events", Tags: tags,
		Summary:   "The same as events named progress, whenever something has changed; the stream ends when nothing is pending",
		Responses: eventStream("The progress"), Errors: []int{404},
	}, func(ctx context.Context, in *ingestionInput) (*huma.StreamResponse, error) {
		first, err := s.progress(ctx, in.ID)
		if err != nil {
			return nil, s.problem(err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humachi.Unwrap(hc)
			s.watch(r.Context(), openStream(w, s.WriteWithin), first)
		}}, nil
	})
}

// watch sends every change of an ingestion until nothing is pending.
func (s *Server) watch(ctx context.Context, to *stream, seen progress) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	id := int64(1)
	_ = to.event(id, "progress", seen)
	quiet := time.Now()
	for to.err == nil && seen.Pending > 0 {
		select {
		case <-ctx.Done():
			return
		case <-s.quit:
			return
		case <-tick.C:
		}
		now, err := s.progress(ctx, seen.ID)
		switch {
		case err != nil:
			p := s.problem(err)
			_ = to.event(id+1, "error", map[string]string{"code": http.StatusText(p.Status), "message": p.Detail})
			return
		case !reflect.DeepEqual(now, seen):
			id++
			_ = to.event(id, "progress", now)
			seen, quiet = now, time.Now()
		case time.Since(quiet) >= s.Heartbeat:
			_ = to.heartbeat()
			quiet = time.Now()
		}
	}
}

func (s *Server) progress(ctx context.Context, id string) (progress, error) {
	p, err := s.Ingest.Ingestion(ctx, id)
	if err != nil {
		return progress{}, err
	}
	out := progress{ID: p.ID, Total: p.Total, Ready: p.Ready, Failed: p.Failed, Pending: p.Pending, Documents: append([]ingest.Document{}, p.Documents...)}
	if p.ETA != nil {
		eta := p.ETA.Milliseconds()
		out.ETA = &eta
	}
	return out, nil
}

// schemaOf registers a type with the OpenAPI document.
func schemaOf[T any](api huma.API) *huma.Schema {
	t := reflect.TypeFor[T]()
	return api.OpenAPI().Components.Schemas.Schema(t, true, t.Name())
}

// eventStream describes a response of server-sent events.
func eventStream(of string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: of, Content: map[string]*huma.MediaType{
		"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}},
	}}}
}
