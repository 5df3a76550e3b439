package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"lessrag/ingest"
)

type collectionsOutput struct {
	Body struct {
		Collections []ingest.Collection `json:"collections"`
	}
}

type collectionInput struct {
	Name string `path:"name" doc:"The collection's name"`
}

type settingsInput struct {
	Name string `path:"name" doc:"The collection's name"`
	Body ingest.Settings
}

type reingestOutput struct {
	Body struct {
		Queued int `json:"queued" doc:"documents that are worked on again"`
	}
}

func (s *Server) collections(api huma.API) {
	tags := []string{"documents"}
	huma.Register(api, huma.Operation{
		OperationID: "list-collections", Method: http.MethodGet, Path: "/api/v1/collections", Tags: tags,
		Summary: "List the collections",
	}, func(ctx context.Context, _ *struct{}) (*collectionsOutput, error) {
		all, err := s.Ingest.Collections(ctx)
		if err != nil {
			return nil, s.problem(err)
		}
		out := &collectionsOutput{}
		out.Body.Collections = append([]ingest.Collection{}, all...)
		return out, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "configure-collection", Method: http.MethodPut, Path: "/api/v1/collections/{name}/settings", Tags: tags,
		Summary:       "Set how the documents of a collection are cut and indexed",
		Description:   "What is left out is the service's own. It holds for documents worked on from then on; see reingest.",
		DefaultStatus: http.StatusNoContent, Errors: []int{404, 422},
	}, func(ctx context.Context, in *settingsInput) (*struct{}, error) {
		if err := s.Ingest.Configure(ctx, in.Name, in.Body); err != nil {
			return nil, s.problem(err)
		}
		return nil, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "reingest-collection", Method: http.MethodPost, Path: "/api/v1/collections/{name}/reingest", Tags: tags,
		Summary: "Work on every document of a collection again, such as after its settings changed", DefaultStatus: http.StatusAccepted, Errors: []int{404},
	}, func(ctx context.Context, in *collectionInput) (*reingestOutput, error) {
		n, err := s.Ingest.Reingest(ctx, in.Name)
		if err != nil {
			return nil, s.problem(err)
		}
		out := &reingestOutput{}
		out.Body.Queued = n
		return out, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "delete-collection", Method: http.MethodDelete, Path: "/api/v1/collections/{name}", Tags: tags,
		Summary: "Delete a collection with all of its documents", DefaultStatus: http.StatusNoContent, Errors: []int{404},
	}, func(ctx context.Context, in *collectionInput) (*struct{}, error) {
		if err := s.Ingest.DeleteCollection(ctx, in.Name); err != nil {
			return nil, s.problem(err)
		}
		return nil, nil
	})
}
