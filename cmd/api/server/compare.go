package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"lessrag/cmd/api/answer"
)

// compareInput is POST /api/v1/compare.
type compareInput struct {
	Body struct {
		Question    string   `json:"question" doc:"What to answer from the documents"`
		Collection  string   `json:"collection,omitempty" doc:"Where to look; the server may have a default"`
		Readings    []wanted `json:"readings,omitempty" maxItems:"8" doc:"Ways to read the passages; without it the default cache, the full one, and the remote model where one is configured"`
		Limit       *int     `json:"limit,omitempty" minimum:"1" doc:"Passages to search for"`
		MaxTokens   *int     `json:"max_tokens,omitempty" minimum:"1" doc:"The longest answer"`
		Temperature *float64 `json:"temperature,omitempty" doc:"0 always takes the likeliest token"`
		TopP        *float64 `json:"top_p,omitempty"`
		Seed        *int64   `json:"seed,omitempty"`
	}
}

// wanted is one reading: a cache of the local reader, or the remote model.
type wanted struct {
	Cache  string `json:"cache,omitempty" example:"sinks" doc:"Cache policy of the local reader; its default where this and remote are left out"`
	Budget string `json:"budget,omitempty" example:"10%"`
	Remote bool   `json:"remote,omitempty" doc:"The remote model in place of the local reader"`
}

type compareOutput struct{ Body answer.Comparison }

func (s *Server) compare(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "compare", Method: http.MethodPost, Path: "/api/v1/compare", Tags: []string{"answers"},
		Summary: "Read the same passages with several caches, and with a remote model",
		Description: "Local readings run one after the other, the remote one beside them. A reading that fails has an error in its column " +
			"and leaves the others alone. Nothing is stored.",
		Errors: []int{404, 409, 422, 429, 500, 503},
	}, func(ctx context.Context, in *compareInput) (*compareOutput, error) {
		b := in.Body
		var readings []answer.Reading
		for _, r := range b.Readings {
			readings = append(readings, answer.Reading(r))
		}
		c, err := s.Answers.Compare(ctx, answer.Question{
			Text: b.Question, Collection: b.Collection, Limit: deref(b.Limit), MaxTokens: deref(b.MaxTokens),
			Temperature: b.Temperature, TopP: b.TopP, Seed: b.Seed,
		}, readings, nil)
		if err != nil {
			return nil, s.problem(err)
		}
		return &compareOutput{c}, nil
	})
}
