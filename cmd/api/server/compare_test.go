package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lessrag/cmd/api/answer"
	"lessrag/cmd/api/remote"
)

// remoteModel is a server on this machine that speaks the protocol of remote
// models; status other than 200 refuses.
func remoteModel(t *testing.T, status int) *remote.Model {
	t.Helper()
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{"content":"It was opened on 4 May 1974 by Ilse Brandt [1]."}}]}`+"\n\n"+
			`data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+"\n\n"+
			`data: {"choices":[],"usage":{"prompt_tokens":300,"completion_tokens":15,"total_tokens":315}}`+"\n\ndata: [DONE]\n\n")
	}))
	t.Cleanup(far.Close)
	m, err := remote.FromEnvironment(func(name string) string {
		return map[string]string{remote.EnvURL: far.URL + "/v1", remote.EnvModel: "far", remote.EnvPromptPrice: "10"}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// compare posts a body and decodes what comes back, which must have the status.
func compare[T any](t *testing.T, s *service, body string, status int) (v T) {
	t.Helper()
	r, text := s.request(http.MethodPost, "/api/v1/compare", body, nil)
	if r.StatusCode != status {
		t.Fatalf("%s: %d, want %d: %s", body, r.StatusCode, status, text)
	}
	return decoded[T](t, text)
}

func TestCompare(t *testing.T) {
	s := newService(t, nil).withFacts()
	s.answers.Remote = remoteModel(t, http.StatusOK)
	c := compare[answer.Comparison](t, s, asked+`}`, http.StatusOK)

	if len(c.Columns) != 3 || len(c.Passages) == 0 || c.Passages[0].Document.Name != "bridge.md" {
		t.Fatalf("%d columns over %+v", len(c.Columns), c.Passages)
	}
	small, full, far := c.Columns[0], c.Columns[1], c.Columns[2]
	for _, column := range c.Columns {
		if column.Error != nil || column.Answer == "" || column.FinishReason == "" || !(column.Timing.TTFTMS > 0) || column.Usage.PromptTokens == 0 {
			t.Errorf("column %+v", column)
		}
	}
	if small.Memory.Cache != "sinks" || full.Memory.Cache != "full" || small.Usage.PromptTokens != full.Usage.PromptTokens {
		t.Errorf("local columns %+v and %+v", small, full)
	}
	if full.Memory.EvictedTokens != 0 || full.Memory.HeldBytes > full.Memory.BudgetBytes || full.Memory.HeldBytes != full.Memory.FullCacheBytes {
		t.Errorf("the full cache: %+v", full.Memory)
	}
	if !far.Remote || far.Reader != "far" || len(far.Citations) != 1 || far.Citations[0].PassageID != c.Passages[0].ID ||
		far.Cost == nil || !(*far.Cost == 0.003) || far.Memory != (answer.Memory{}) {
		t.Errorf("remote column %+v", far)
	}
}

func TestCompareKeepsTheOthersWhenOneFails(t *testing.T) {
	s := newService(t, nil).withFacts()
	s.answers.Remote = remoteModel(t, http.StatusUnauthorized)
	c := compare[answer.Comparison](t, s, asked+`,"readings":[{"remote":true},{"cache":"full","budget":"600"}],"max_tokens":8}`, http.StatusOK)
	if len(c.Columns) != 2 {
		t.Fatalf("columns %+v", c.Columns)
	}
	if e := c.Columns[0].Error; e == nil || !strings.Contains(e.Message, "401") || c.Columns[0].FinishReason != answer.FinishError {
		t.Errorf("the refused column: %+v", c.Columns[0])
	}
	if c.Columns[1].Error != nil || c.Columns[1].Answer == "" {
		t.Errorf("the other column: %+v", c.Columns[1])
	}
}

func TestCompareRefuses(t *testing.T) {
	s := newService(t, nil).withFacts()
	for body, field := range map[string]string{
		`{"question":""}`:                                              "body.question",
		asked + `,"readings":[{"remote":true}]}`:                       "body.remote",
		asked + `,"readings":[{"cache":"sinks"},{"cache":"nothing"}]}`: "body.cache",
		asked + `,"readings":[{"cache":"sinks","budget":"-3"}]}`:       "body.budget",
		asked + `,"readings":[{"cash":"sinks"}]}`:                      "body.readings",
	} {
		p := compare[Problem](t, s, body, http.StatusUnprocessableEntity)
		if len(p.Errors) == 0 || !strings.HasPrefix(p.Errors[0].Location, field) {
			t.Errorf("%s: %+v", body, p)
		}
	}
	c := compare[answer.Comparison](t, s, `{"question":"What is the boiling point of tungsten hexafluoride?"}`, http.StatusOK)
	for _, column := range c.Columns {
		if column.FinishReason != answer.FinishRefused {
			t.Errorf("off topic: %+v", column)
		}
	}
}
