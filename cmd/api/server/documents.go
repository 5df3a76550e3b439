package server

import (
	"cmp"
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"lessrag/ingest"
)

// submitInput is POST /api/v1/documents with JSON; files come as a form.
type submitInput struct {
	Body struct {
		Collection string `json:"collection,omitempty" doc:"Made when it does not exist; the server may have a default"`
		Documents  []struct {
			Name      string         `json:"name" doc:"The same name again, with other text, is a new version"`
			Text      string         `json:"text"`
			MediaType string         `json:"media_type,omitempty" example:"text/markdown"`
			Source    string         `json:"source,omitempty" doc:"Where it came from; shown with citations"`
			Metadata  map[string]any `json:"metadata,omitempty"`
		} `json:"documents" minItems:"1" maxItems:"1000"`
	}
}

// pagesInput is POST /api/v1/documents/urls.
type pagesInput struct {
	Body struct {
		Collection string   `json:"collection,omitempty" doc:"Made when it does not exist; the server may have a default"`
		URLs       []string `json:"urls" minItems:"1" maxItems:"1000" example:"[\"https://example.org/manual\"]" doc:"http and https; the name of the document that a page becomes is its address"`
	}
}

type submitOutput struct{ Body ingest.Submission }

type documentInput struct {
	ID string `path:"id" doc:"The document's id"`
}

type documentOutput struct{ Body ingest.Document }

type listInput struct {
	Collection string `query:"collection"`
	State      string `query:"state" enum:"queued,extracting,chunking,embedding,ready,failed"`
	Cursor     string `query:"cursor" doc:"next_cursor of the page before"`
	Limit      int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type listOutput struct {
	Body struct {
		Documents  []ingest.Document `json:"documents"`
		NextCursor string            `json:"next_cursor" doc:"empty on the last page"`
	}
}

func (s *Server) documents(api huma.API) {
	tags := []string{"documents"}
	huma.Register(api, huma.Operation{
		OperationID: "submit-documents", Method: http.MethodPost, Path: "/api/v1/documents", Tags: tags,
		Summary:       "Hand in documents, as JSON or as files of a form",
		Description:   "They are stored before this answers, and worked on after it: see /api/v1/ingestions/{id}.",
		DefaultStatus: http.StatusAccepted, MaxBodyBytes: s.MaxUpload + 1, BodyReadTimeout: uploadWithin, Errors: []int{409, 413, 415, 422, 503},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"multipart/form-data": {Schema: uploadSchema()},
		}},
	}, func(ctx context.Context, in *submitInput) (*submitOutput, error) {
		files := make([]ingest.File, len(in.Body.Documents))
		for i, d := range in.Body.Documents {
			files[i] = ingest.File{Name: d.Name, Source: d.Source, MediaType: d.MediaType, Metadata: d.Metadata, Content: []byte(d.Text)}
		}
		done, err := s.Ingest.Submit(ctx, cmp.Or(in.Body.Collection, s.Collection), files)
		if err != nil {
			return nil, s.problem(err)
		}
		return &submitOutput{done}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "submit-pages", Method: http.MethodPost, Path: "/api/v1/documents/urls", Tags: tags,
		Summary: "Hand in addresses of pages, to be fetched from the web",
		Description: "Only where the service runs with --allow-urls, and only from public addresses. They are stored before this answers, and " +
			"fetched after it: see /api/v1/ingestions/{id}. An address that is known is fetched again; nothing is done where its content is the same.",
		DefaultStatus: http.StatusAccepted, Errors: []int{403, 409, 422, 503},
	}, func(ctx context.Context, in *pagesInput) (*submitOutput, error) {
		if !s.AllowURLs {
			return nil, &Problem{Status: http.StatusForbidden, Title: http.StatusText(http.StatusForbidden), Type: "about:blank",
				Detail: "this service fetches no pages: start it with --allow-urls"}
		}
		done, err := s.Ingest.SubmitURLs(ctx, cmp.Or(in.Body.Collection, s.Collection), in.Body.URLs)
		if err != nil {
			return nil, s.problem(err)
		}
		return &submitOutput{done}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "list-documents", Method: http.MethodGet, Path: "/api/v1/documents", Tags: tags,
		Summary: "List documents and how far they have come", Errors: []int{404, 422, 503},
	}, func(ctx context.Context, in *listInput) (*listOutput, error) {
		all, next, err := s.Ingest.Documents(ctx, ingest.Filter{
			Collection: in.Collection, State: ingest.State(in.State), Cursor: in.Cursor, Limit: in.Limit,
		})
		if err != nil {
			return nil, s.problemAt("query", err)
		}
		out := &listOutput{}
		out.Body.Documents, out.Body.NextCursor = append([]ingest.Document{}, all...), next
		return out, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "get-document", Method: http.MethodGet, Path: "/api/v1/documents/{id}", Tags: tags,
		Summary: "One document", Errors: []int{404},
	}, func(ctx context.Context, in *documentInput) (*documentOutput, error) {
		d, err := s.Ingest.Document(ctx, in.ID)
		if err != nil {
			return nil, s.problem(err)
		}
		return &documentOutput{d}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "delete-document", Method: http.MethodDelete, Path: "/api/v1/documents/{id}", Tags: tags,
		Summary: "Delete a document and all of its passages", DefaultStatus: http.StatusNoContent, Errors: []int{404},
	}, func(ctx context.Context, in *documentInput) (*struct{}, error) {
		d, err := s.Ingest.Document(ctx, in.ID)
		if err == nil {
			err = s.Ingest.Delete(ctx, in.ID)
		}
		if err != nil {
			return nil, s.problem(err)
		}
		if err := s.Engine.Forget(d.Collection); err != nil {
			return nil, s.problem(err)
		}
		return nil, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "retry-document", Method: http.MethodPost, Path: "/api/v1/documents/{id}/retry", Tags: tags,
		Summary: "Work once more on a document that failed", DefaultStatus: http.StatusAccepted, Errors: []int{404, 409},
	}, func(ctx context.Context, in *documentInput) (*documentOutput, error) {
		if err := s.Ingest.Retry(ctx, in.ID); err != nil {
			return nil, s.problem(err)
		}
		d, err := s.Ingest.Document(ctx, in.ID)
		if err != nil {
			return nil, s.problem(err)
		}
		return &documentOutput{d}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "document-text", Method: http.MethodGet, Path: "/api/v1/documents/{id}/text", Tags: tags,
		Summary: "The extracted text, into which the passages' byte offsets point", Errors: []int{404},
		Responses: map[string]*huma.Response{"200": {Description: "The text", Content: map[string]*huma.MediaType{
			"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}},
		}}},
	}, func(ctx context.Context, in *documentInput) (*huma.StreamResponse, error) {
		text, err := s.Ingest.Text(ctx, in.ID)
		if err != nil {
			return nil, s.problem(err)
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			_, w := humachi.Unwrap(hc)
			// A stranger's text: never shown as anything but text.
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Content-Disposition", "attachment")
			_, _ = w.Write([]byte(text)) // a client that has gone misses it
		}}, nil
	})
}
