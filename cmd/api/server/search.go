package server

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lessrag/retrieve"
)

// searchInput is POST /api/v1/search.
type searchInput struct {
	Body struct {
		Query      string         `json:"query"`
		Collection string         `json:"collection,omitempty" doc:"Where to look; the server may have a default"`
		Limit      *int           `json:"limit,omitempty" minimum:"1" maximum:"100"`
		Widen      *int           `json:"widen,omitempty" minimum:"1" maximum:"8000" doc:"Tokens that a place may have: what was found, and what is around it in its section; 600 if not given"`
		Filter     map[string]any `json:"filter,omitempty" doc:"{\"key\": value}, or {\"key\": {\"gte\": value}}, over the documents' metadata"`
		Mode       string         `json:"mode,omitempty" enum:"hybrid,vector,lexical"`
	}
}

// searchOutput lists passages, best first.
type searchOutput struct {
	Body struct {
		Passages []retrieve.Passage `json:"passages"`
		Timing   struct {
			EmbedMS  float64 `json:"embed_ms"`
			SearchMS float64 `json:"search_ms"`
			RerankMS float64 `json:"rerank_ms" doc:"0 without a reranker"`
			WidenMS  float64 `json:"widen_ms"`
		} `json:"timing"`
	}
}

func (s *Server) search(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "search", Method: http.MethodPost, Path: "/api/v1/search", Tags: []string{"documents"},
		Summary: "Find passages, with their ranks in both lists", Errors: []int{404, 409, 422, 503},
	}, func(ctx context.Context, in *searchInput) (*searchOutput, error) {
		found, err := s.Searcher.Search(ctx, retrieve.Query{
			Text: in.Body.Query, Collection: cmp.Or(in.Body.Collection, s.Collection),
			Limit: deref(in.Body.Limit), Widen: deref(in.Body.Widen), Filter: in.Body.Filter, Mode: in.Body.Mode,
		})
		if err != nil {
			return nil, s.problem(err)
		}
		out := &searchOutput{}
		out.Body.Passages = found.Passages
		if found.Passages == nil {
			out.Body.Passages = []retrieve.Passage{}
		}
		t := &out.Body.Timing
		t.EmbedMS, t.SearchMS, t.RerankMS, t.WidenMS = ms(found.EmbedTime), ms(found.SearchTime), ms(found.RerankTime), ms(found.WidenTime)
		return out, nil
	})
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
