package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"lessrag/cmd/api/answer"
	"lessrag/decode"
	"lessrag/lesskernels/cuda/device"
	"lessrag/lesskernels/cuda/ptx"
)

func TestOpenAPI(t *testing.T) {
	s := newService(t, nil)
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	s.get("/openapi.json", &doc)
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	for path, methods := range map[string]string{
		"/api/v1/documents": "get post", "/api/v1/documents/{id}": "get delete", "/api/v1/documents/{id}/retry": "post", "/api/v1/documents/{id}/text": "get",
		"/api/v1/ingestions/{id}": "get", "/api/v1/ingestions/{id}/events": "get", "/api/v1/collections": "get", "/api/v1/search": "post",
		"/api/v1/chat": "post", "/api/v1/runs/{id}": "get", "/api/v1/runs/{id}/events": "get", "/api/v1/runs/{id}/cancel": "post",
		"/api/v1/status": "get", "/healthz": "get", "/readyz": "get",
	} {
		for method := range strings.FieldsSeq(methods) {
			if doc.Paths[path][method] == nil {
				t.Errorf("%s %s is not described", method, path)
			}
		}
	}
	submit := string(doc.Paths["/api/v1/documents"]["post"])
	if !strings.Contains(submit, "multipart/form-data") || !strings.Contains(submit, "application/json") {
		t.Errorf("both ways to hand in documents are not described: %s", submit)
	}
}

func TestStatusAndMetrics(t *testing.T) {
	s := newService(t, nil).withFacts()
	var status struct {
		Model struct {
			Name    string
			Context int
		}
		Slots    struct{ Total int }
		Cache    struct{ Default, Budget string }
		Examples []string
	}
	s.get("/api/v1/status", &status)
	if status.Model.Name == "" || status.Model.Context == 0 || status.Slots.Total == 0 || status.Cache.Default != "sinks" || len(status.Examples) != 1 {
		t.Errorf("status %+v", status)
	}
	s.request("POST", "/api/v1/chat", asked+`,"max_tokens":3}`, nil)
	_, text := s.request("GET", "/metrics", "", nil)
	for _, line := range []string{
		`lessrag_documents{state="ready"} 3`, `lessrag_documents{state="failed"} 0`, `lessrag_answers_total{finish_reason="length"} 1`,
		`lessrag_tokens_total{kind="completion"} 3`, `lessrag_time_to_first_token_seconds_count 1`, `lessrag_sequences_running 0`,
		`lessrag_sequences_queued 0`, `lessrag_cache_bytes_used 0`, `lessrag_retrieval_seconds_count 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if response, text := s.request("GET", path, "", nil); response.StatusCode != 200 {
			t.Errorf("%s: %d %s", path, response.StatusCode, text)
		}
	}
}

func TestPageIsServed(t *testing.T) {
	s := newService(t, nil)
	response, text := s.request("GET", "/", "", nil)
	if response.StatusCode != 200 || !strings.Contains(text, "<title>Lessrag</title>") || response.Header.Get("ETag") == "" {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	if policy := response.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src 'self';") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %s", policy)
	}
	response, _ = s.request("GET", "/", "", map[string]string{"If-None-Match": response.Header.Get("ETag")})
	if response.StatusCode != 304 {
		t.Errorf("the same page again: %d", response.StatusCode)
	}
	if response, _ := s.request("HEAD", "/", "", nil); response.StatusCode != 200 {
		t.Errorf("HEAD: %d", response.StatusCode)
	}
}

func TestReadyWithoutDatabase(t *testing.T) {
	s := newService(t, nil)
	s.pool.Close()
	if response, text := s.request("GET", "/readyz", "", nil); response.StatusCode != 503 {
		t.Errorf("/readyz: %d %s", response.StatusCode, text)
	}
	if response, text := s.request("GET", "/healthz", "", nil); response.StatusCode != 200 {
		t.Errorf("/healthz: %d %s", response.StatusCode, text)
	}
	if response, text := s.request("POST", "/api/v1/chat", asked+`}`, nil); response.StatusCode/100 != 5 || strings.Contains(text, "pool") {
		t.Errorf("chat: %d %s", response.StatusCode, text)
	}
}

// stuck is a card that is lost and does not come back.
type stuck struct{ *ptx.Device }

func (stuck) Reopen() error { return errors.New("the slot is empty") }

func TestReadyWithoutDecoder(t *testing.T) {
	cards := []*ptx.Device{ptx.New(1 << 30), ptx.New(1 << 30)}
	cards[1].Index = 1
	openModels(t)
	engine, err := decode.Open(models.engine.Info().Path, decode.Options{Devices: []device.Device{stuck{cards[0]}, stuck{cards[1]}}, CacheMemory: 1 << 24})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	s := newService(t, func(c *Config) { c.Engine = engine }).withFacts()
	if response, text := s.request("GET", "/readyz", "", nil); response.StatusCode != 200 || strings.Contains(text, "lost") {
		t.Errorf("/readyz: %d %s", response.StatusCode, text)
	}
	for _, card := range cards {
		card.Lose(errors.New("the bus fell silent"))
	}
	if response, text := s.request("POST", "/api/v1/chat", asked+`}`, nil); response.StatusCode != 503 || !strings.Contains(text, "the bus fell silent") {
		t.Errorf("the answer that meets the first card: %d %s", response.StatusCode, text)
	}
	if response, text := s.request("GET", "/readyz", "", nil); response.StatusCode != 200 || !strings.Contains(text, `"lost":["card 0 (PTX interpreter): `) {
		t.Errorf("/readyz with one of two cards: %d %s", response.StatusCode, text)
	}
	_, text := s.request("GET", "/metrics", "", nil)
	for _, want := range []string{`lessrag_device_up{device="card 0 (PTX interpreter)"} 0`, `lessrag_device_up{device="card 1 (PTX interpreter)"} 1`,
		`lessrag_device_tokens_total{device="card 1 (PTX interpreter)",kind="prompt"} 0`, fmt.Sprintf("lessrag_cache_bytes_total %v\n", float64(2<<24))} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics does not say %s", want)
		}
	}
	for _, what := range []string{"the answer that meets it", "the next one"} {
		response, text := s.request("POST", "/api/v1/chat", asked+`}`, nil)
		if response.StatusCode != 503 || !strings.Contains(text, "the bus fell silent") || response.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", what, response.StatusCode, text)
		}
	}
	s.eventually("it is known that the card does not come back", func() bool {
		response, text := s.request("GET", "/readyz", "", nil)
		if response.StatusCode != 503 || !strings.Contains(text, "the decoder is not ready") || !strings.Contains(text, "the bus fell silent") {
			t.Fatalf("/readyz: %d %s", response.StatusCode, text)
		}
		return strings.Contains(text, "the slot is empty")
	})
	if response, text := s.request("GET", "/healthz", "", nil); response.StatusCode != 200 {
		t.Errorf("/healthz: %d %s", response.StatusCode, text)
	}
}

func TestServeOnlyThisMachine(t *testing.T) {
	s := newService(t, nil)
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := s.server.Serve(l); !errors.Is(err, ErrNotLoopback) {
		t.Errorf("served the network: %v", err)
	}
}

func TestShutdownLetsAnswersFinish(t *testing.T) {
	s := newService(t, nil).withFacts()
	r := s.stream(asked + `,"max_tokens":40,"temperature":2}`)
	r.until("delta")
	down := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		down <- s.server.Shutdown(ctx)
	}()
	s.eventually("new work is refused", func() bool { return s.server.stopping.Load() })
	response, text := s.request("POST", "/api/v1/chat", asked+`}`, nil)
	if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
		t.Errorf("while stopping: %d %s", response.StatusCode, text)
	}
	events := r.rest()
	if last := events[len(events)-1]; last.Name != "done" || decoded[answer.Done](t, last.Data).FinishReason == "cancelled" {
		t.Errorf("the running answer ended with %+v", last)
	}
	if err := <-down; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

func TestShutdownAfterGrace(t *testing.T) {
	s := newService(t, nil).withFacts()
	r := s.stream(long + `}`)
	r.until("delta")
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := s.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown cut an answer and said %v", err)
	}
	if record := storedRecord(t, s, r.run); record.FinishReason != "cancelled" {
		t.Errorf("cut off, but stored as %q", record.FinishReason)
	}
}
