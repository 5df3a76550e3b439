package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// endpoint is a server on this machine that speaks the protocol: it answers
// with the events that it is given and records what it was asked.
type endpoint struct {
	*httptest.Server
	requests atomic.Int32
	key      atomic.Value
	body     atomic.Value
}

func newEndpoint(t *testing.T, answer func(attempt int32, w http.ResponseWriter)) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/chat/completions" {
			t.Errorf("asked %s %s", r.Method, r.URL.Path)
		}
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Errorf("request body: %v", err)
		}
		e.key.Store(r.Header.Get("Authorization"))
		e.body.Store(body)
		answer(e.requests.Add(1), w)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) model(t *testing.T, more map[string]string) *Model {
	t.Helper()
	env := map[string]string{EnvURL: e.URL + "/v1", EnvModel: "big", EnvKey: "secret"}
	for name, value := range more {
		env[name] = value
	}
	m, err := FromEnvironment(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func stream(w http.ResponseWriter, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, event := range events {
		fmt.Fprintf(w, "data: %s\n\n", event)
	}
}

func delta(text string) string {
	return fmt.Sprintf(`{"id":"1","object":"chat.completion.chunk","model":"big","choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}`, text)
}

const (
	finished = `{"id":"1","object":"chat.completion.chunk","model":"big","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	usage    = `{"id":"1","object":"chat.completion.chunk","model":"big","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":20,"total_tokens":1020}}`
)

var question = []Message{{"system", "Be short."}, {"user", "Why?"}}

func TestAnswerStreams(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "for something else")
	t.Setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/elsewhere")
	e := newEndpoint(t, func(_ int32, w http.ResponseWriter) {
		stream(w, delta("Because "), delta("of rain [1]."), finished, usage, "[DONE]")
	})
	m := e.model(t, map[string]string{EnvPromptPrice: "2", EnvAnswerPrice: "10"})
	var pieces []string
	a, err := m.Answer(context.Background(), question, 64, 0, func(text string) { pieces = append(pieces, text) })
	if err != nil {
		t.Fatal(err)
	}
	if a.Text != "Because of rain [1]." || strings.Join(pieces, "|") != "Because |of rain [1]." {
		t.Errorf("answer %q in pieces %q", a.Text, pieces)
	}
	if a.FinishReason != "stop" || a.PromptTokens != 1000 || a.CompletionTokens != 20 {
		t.Errorf("answer %+v", a)
	}
	if a.Cost == nil || !(math.Abs(*a.Cost-0.0022) <= 1e-12) {
		t.Errorf("cost %v, want 0.0022", a.Cost)
	}
	if !(a.TTFT > 0 && a.Total >= a.TTFT) {
		t.Errorf("first text after %v, all after %v", a.TTFT, a.Total)
	}
	if key := e.key.Load(); key != "Bearer secret" {
		t.Errorf("Authorization %q", key)
	}
	body := e.body.Load().(map[string]any)
	if body["model"] != "big" || body["stream"] != true || body["max_tokens"] != 64.0 || len(body["messages"].([]any)) != 2 {
		t.Errorf("asked %v", body)
	}
}

func TestAnswerFailures(t *testing.T) {
	for _, test := range []struct {
		name     string
		answer   func(attempt int32, w http.ResponseWriter)
		check    func(error) bool
		requests int32
	}{
		{"a refusal that will not pass", func(_ int32, w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":{"message":"Incorrect API key","type":"invalid_request_error","code":"invalid_api_key"}}`)
		}, func(err error) bool {
			var status *StatusError
			return errors.As(err, &status) && status.Status == 401 && strings.Contains(status.Message, "Incorrect API key")
		}, 1},
		{"one that may pass, tried again", func(_ int32, w http.ResponseWriter) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, func(err error) bool {
			var status *StatusError
			return errors.As(err, &status) && status.Status == 503
		}, 3},
		{"a stream cut in the middle", func(_ int32, w http.ResponseWriter) {
			stream(w, delta("Because"))
		}, func(err error) bool { return errors.Is(err, ErrCut) }, 1},
		{"an error inside the stream", func(_ int32, w http.ResponseWriter) {
			stream(w, delta("Because"), `{"error":{"message":"overloaded","type":"server_error"}}`)
		}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "overloaded") }, 1},
		{"no JSON", func(_ int32, w http.ResponseWriter) {
			stream(w, "<html>")
		}, func(err error) bool { return err != nil }, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEndpoint(t, test.answer)
			_, err := e.model(t, nil).Answer(context.Background(), question, 8, 0, func(string) {})
			if !test.check(err) {
				t.Errorf("error %v", err)
			}
			if n := e.requests.Load(); n != test.requests {
				t.Errorf("%d requests, want %d", n, test.requests)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the key: %v", err)
			}
		})
	}
}

func TestAnswerRecovers(t *testing.T) {
	e := newEndpoint(t, func(attempt int32, w http.ResponseWriter) {
		if attempt == 1 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		stream(w, delta("Yes."), finished, "[DONE]")
	})
	a, err := e.model(t, map[string]string{EnvPromptPrice: "2"}).Answer(context.Background(), question, 8, 0, func(string) {})
	if err != nil || a.Text != "Yes." {
		t.Errorf("answer %+v, %v", a, err)
	}
	if a.Cost != nil {
		t.Errorf("a cost of %v without counts", *a.Cost)
	}
}

func TestAnswerStops(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	e := newEndpoint(t, func(_ int32, w http.ResponseWriter) {
		stream(w, delta("Because"))
		w.(http.Flusher).Flush()
		<-release
	})
	ctx, cancel := context.WithCancel(context.Background())
	_, err := e.model(t, nil).Answer(ctx, question, 8, 0, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestFromEnvironment(t *testing.T) {
	for _, test := range []struct {
		name string
		env  map[string]string
		want string // part of the error; "" for none
	}{
		{"nothing", nil, ""},
		{"a key alone", map[string]string{EnvKey: "k"}, ""},
		{"no model", map[string]string{EnvURL: "http://localhost/v1"}, EnvModel},
		{"no address", map[string]string{EnvModel: "m"}, EnvURL},
		{"not an address", map[string]string{EnvURL: "localhost", EnvModel: "m"}, "localhost"},
		{"another protocol", map[string]string{EnvURL: "ftp://host/v1", EnvModel: "m"}, "ftp"},
		{"a negative price", map[string]string{EnvURL: "http://h/v1", EnvModel: "m", EnvAnswerPrice: "-1"}, EnvAnswerPrice},
		{"no number", map[string]string{EnvURL: "http://h/v1", EnvModel: "m", EnvPromptPrice: "NaN"}, EnvPromptPrice},
	} {
		m, err := FromEnvironment(func(name string) string { return test.env[name] })
		switch {
		case test.want == "" && (m != nil || err != nil):
			t.Errorf("%s: %v, %v", test.name, m, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error %v does not name %s", test.name, err, test.want)
		}
	}
}
