package server

import (
	"net/http"
	"strings"
	"testing"

	"lessrag/cmd/api/answer"
	"lessrag/decode"
	"lessrag/decode/passages"
)

// A passage that is asked about again is not read again: the account says so, the
// metrics count it, and what was computed of it goes when its document goes.
func TestAnswersFromPassagesReadBefore(t *testing.T) {
	openModels(t)
	store, err := passages.Open(passages.Options{Memory: 64 << 20, Disk: 64 << 20, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	// Memory for one answer, and for no beginning beside it, from which the second would go on.
	engine, err := decode.Open(asset(reader), decode.Options{CacheMemory: 8 << 20, Passages: store})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	s := newService(t, func(c *Config) { c.Engine = engine }).withFacts()
	s.answers.BlendShare = 0.15
	ask := func(question, conversation string) (r answer.Record) {
		t.Helper()
		response, body := s.request("POST", "/api/v1/chat", `{"question":"`+question+`","conversation_id":"`+conversation+`"}`, nil)
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", response.Status, body)
		}
		return decoded[answer.Record](t, body)
	}
	first := ask("When was the Aurora bridge opened, and by whom?", "")
	if first.Usage.ReusedTokens != 0 || len(first.Passages) == 0 {
		t.Fatalf("of a first question: %+v", first.Usage)
	}
	s.eventually("its passages are computed", func() bool { return engine.Stats().Passages.Passages >= len(first.Passages) })
	second := ask("What is the toll on the Aurora bridge for a bicycle?", "")
	u := second.Usage
	if u.ReusedTokens < 32 || u.RecomputedTokens < 1 || u.RecomputedTokens > u.ReusedTokens/4 || second.Answer == "" {
		t.Errorf("of a second question about it: %+v, %q", u, second.Answer)
	}
	if m := second.Memory; m.HeldBytes <= 0 || m.HeldBytes > m.BudgetBytes {
		t.Errorf("%+v", m)
	}
	// Its next turn is put together as well.
	third := ask("And when was it opened?", second.ConversationID)
	if got := third.Usage; third.Given != len(second.Passages) || got.ReusedTokens < u.ReusedTokens {
		t.Errorf("of a turn after it: %+v, %d of %d passages given", got, third.Given, len(second.Passages))
	}
	_, metrics := s.request("GET", "/metrics", "", nil)
	for _, name := range []string{"lessrag_blended_tokens_total", `lessrag_passage_bytes{tier="disk"}`, "lessrag_blend_bytes", `lessrag_passage_lookups_total{outcome="memory"}`} {
		if !strings.Contains(metrics, name+" ") || strings.Contains(metrics, name+" 0\n") {
			t.Errorf("/metrics does not count %s", name)
		}
	}
	if response, body := s.request("DELETE", "/api/v1/documents/"+second.Passages[0].DocumentID, "", nil); response.StatusCode != http.StatusNoContent {
		t.Fatalf("%s: %s", response.Status, body)
	}
	if left := engine.Stats().Passages; left.MemoryBytes != 0 || left.DiskBytes != 0 {
		t.Errorf("left of a collection that a document was deleted from: %+v", left)
	}
}
