package server

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lessrag/decode/cache"
)

// statusOutput tells the page, and whoever asks, what answers here.
type statusOutput struct {
	Body struct {
		Version string `json:"version"`
		Model   struct {
			Name         string `json:"name"`
			File         string `json:"file" doc:"the file's name without its ending"`
			Architecture string `json:"architecture"`
			Parameters   int64  `json:"parameters"`
			Context      int    `json:"context" doc:"tokens"`
			WeightBytes  int64  `json:"weight_bytes"`
			Hash         string `json:"hash" doc:"SHA-256 of the file"`
		} `json:"model"`
		Embedder string `json:"embedder"`
		Device   string `json:"device"`
		Cache    struct {
			Default string `json:"default"`
			Budget  string `json:"budget"`
		} `json:"cache"`
		Slots struct {
			Total   int `json:"total" doc:"answers that run at a time with the default cache"`
			Running int `json:"running"`
			Queued  int `json:"queued"`
		} `json:"slots"`
		Collection string   `json:"collection" doc:"used where a request names none"`
		Examples   []string `json:"examples" doc:"questions that the default collection answers"`
		MaxUpload  int64    `json:"max_upload_bytes"`
	}
}

func (s *Server) status(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "status", Method: http.MethodGet, Path: "/api/v1/status", Tags: []string{"service"},
		Summary: "The model, its cache and its slots",
	}, func(context.Context, *struct{}) (*statusOutput, error) {
		info, stats := s.Engine.Info(), s.Engine.Stats()
		out := &statusOutput{}
		b := &out.Body
		b.Version, b.Embedder, b.Device = s.Version, s.Embedder, s.Device
		b.Model.Name, b.Model.Architecture, b.Model.Hash = info.Name, info.Architecture, info.Hash
		b.Model.File = strings.TrimSuffix(filepath.Base(info.Path), filepath.Ext(info.Path))
		b.Model.Parameters, b.Model.Context, b.Model.WeightBytes = info.Parameters, info.Context, info.WeightBytes
		b.Cache.Default, b.Cache.Budget = s.Answers.Defaults.Cache, s.Answers.Defaults.Budget
		b.Slots.Total, b.Slots.Running, b.Slots.Queued = s.slots(), stats.Running, stats.Queued
		b.Collection, b.MaxUpload = s.Collection, s.MaxUpload
		b.Examples = append([]string{}, s.Examples...)
		return out, nil
	})
	type healthOutput struct {
		Body struct {
			Status string   `json:"status"`
			Lost   []string `json:"lost,omitempty" doc:"cards that answer nothing at the moment, and why; others do"`
		}
	}
	ok := func() *healthOutput {
		out := &healthOutput{}
		out.Body.Status = "ok"
		return out
	}
	huma.Register(api, huma.Operation{
		OperationID: "healthz", Method: http.MethodGet, Path: "/healthz", Tags: []string{"service"},
		Summary: "The process runs",
	}, func(context.Context, *struct{}) (*healthOutput, error) { return ok(), nil })
	huma.Register(api, huma.Operation{
		OperationID: "readyz", Method: http.MethodGet, Path: "/readyz", Tags: []string{"service"},
		Summary: "The service can answer: the database and the decoder are there, and it is not stopping", Errors: []int{503},
	}, func(ctx context.Context, _ *struct{}) (*healthOutput, error) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		unready := s.Engine.Ready()
		switch {
		case s.stopping.Load():
			return nil, (&Problem{Status: http.StatusServiceUnavailable, Detail: "the service is stopping"}).complete()
		case s.Pool.Ping(ctx) != nil:
			return nil, (&Problem{Status: http.StatusServiceUnavailable, Detail: "the database cannot be reached"}).complete()
		case unready != nil:
			return nil, (&Problem{Status: http.StatusServiceUnavailable, Detail: unready.Error()}).complete()
		}
		out := ok()
		for _, d := range s.Engine.Devices() {
			if d.Lost != nil {
				out.Body.Lost = append(out.Body.Lost, fmt.Sprintf("%s: %v", d.Device, d.Lost))
			}
		}
		return out, nil
	})
}

// slots is how many answers with the default cache run at a time: as many as
// their bytes allow, and no more than the engine takes.
func (s *Server) slots() int {
	plan, err := s.defaultPlan()
	slots := 0
	for _, d := range s.Engine.Devices() {
		if err != nil {
			slots += d.Slots
		} else {
			slots += min(d.Slots, int(d.CacheMemory/plan.Bytes))
		}
	}
	return slots
}

func (s *Server) defaultPlan() (cache.Plan, error) {
	spec, err := cache.ParseSpec(s.Answers.Defaults.Cache)
	if err != nil {
		return cache.Plan{}, err
	}
	budget, err := cache.ParseBudget(s.Answers.Defaults.Budget)
	if err != nil {
		return cache.Plan{}, err
	}
	return s.Engine.Plan(spec, budget)
}
