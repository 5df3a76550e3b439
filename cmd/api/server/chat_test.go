package server

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"lessrag/cmd/api/answer"
	"lessrag/decode"
	"lessrag/retrieve"
)

const asked = `{"question":"When was the Aurora bridge opened, and by whom?"`

func TestChatStream(t *testing.T) {
	s := newService(t, func(c *Config) { c.Heartbeat = 5 * time.Millisecond }).withFacts()
	r := s.stream(asked + `}`)
	events := r.rest()
	if r.beats == 0 {
		t.Error("no comment kept the stream alive while it searched and read")
	}

	order := map[string]int{"retrieval": 0, "delta": 1, "citation": 1, "usage": 2, "done": 3}
	var text strings.Builder
	var cites []retrieve.Citation
	var report answer.Report
	last := 0
	for i, e := range events {
		rank, known := order[e.Name]
		if !known || rank < last || (i == 0) != (e.Name == "retrieval") || (i == len(events)-1) != (e.Name == "done") {
			t.Fatalf("event %d of %d is %s after rank %d", i+1, len(events), e.Name, last)
		}
		last = rank
		switch e.Name {
		case "delta":
			text.WriteString(decoded[answer.Delta](t, e.Data).Text)
		case "citation":
			cites = append(cites, decoded[retrieve.Citation](t, e.Data))
		case "usage":
			report = decoded[answer.Report](t, e.Data)
		}
	}
	found := decoded[answer.Retrieval](t, events[0].Data)
	if len(found.Passages) == 0 || found.Passages[0].Document.Name != "bridge.md" {
		t.Fatalf("the bridge is not the first of %+v", found.Passages)
	}
	if text.Len() == 0 || last != 3 {
		t.Fatalf("no answer in %v", events)
	}
	m := report.Memory
	if m.Cache != "sinks" || m.HeldBytes <= 0 || m.HeldBytes > m.BudgetBytes || m.FullCacheBytes <= 0 || m.BudgetBytes != found.Memory.BudgetBytes {
		t.Errorf("memory %+v, planned %+v", m, found.Memory)
	}
	if report.Usage.PromptTokens == 0 || report.Usage.CompletionTokens == 0 || !(report.Timing.TTFTMS > 0) || !(report.Timing.PrefillMS > 0) {
		t.Errorf("report %+v", report)
	}
	for _, c := range cites {
		if c.Start < 0 || c.End > text.Len() || c.Start >= c.End || c.Marker < 1 || c.Marker > len(found.Passages) ||
			found.Passages[c.Marker-1].ID != c.PassageID {
			t.Errorf("citation %+v of %q", c, text.String())
		}
	}

	// What was streamed is what is stored, in memory and in the database.
	var record answer.Record
	s.get("/api/v1/runs/"+r.run, &record)
	stored := storedRecord(t, s, r.run)
	if !reflect.DeepEqual(record, stored) {
		t.Errorf("told %+v, stored %+v", record, stored)
	}
	if record.Answer != text.String() || record.Report != report || record.FinishReason != decoded[answer.Done](t, events[len(events)-1].Data).FinishReason ||
		len(record.Citations) != len(cites) || !reflect.DeepEqual(record.Passages, found.Passages) {
		t.Errorf("streamed %q %+v, stored %+v", text.String(), report, record)
	}
}

func storedRecord(t *testing.T, s *service, id string) (r answer.Record) {
	t.Helper()
	var data []byte
	if err := s.pool.QueryRow(t.Context(), `SELECT record FROM runs WHERE id = $1`, id).Scan(&data); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestChatJSON(t *testing.T) {
	s := newService(t, nil).withFacts()
	response, text := s.request("POST", "/api/v1/chat", asked+`,"cache":"full","max_tokens":5,"temperature":0.7,"top_p":0.9,"seed":7,"limit":1}`, nil)
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	r := decoded[answer.Record](t, text)
	if r.Answer == "" || r.RunID == "" || r.ConversationID == "" || len(r.Passages) != 1 || r.Citations == nil {
		t.Fatalf("record %+v", r)
	}
	if r.Usage.CompletionTokens > 5 || r.Memory.Cache != "full" || r.Memory.EvictedTokens != 0 || r.Memory.HeldBytes > r.Memory.BudgetBytes {
		t.Errorf("usage %+v, memory %+v", r.Usage, r.Memory)
	}
	// The same seed says the same again.
	_, again := s.request("POST", "/api/v1/chat", asked+`,"cache":"full","max_tokens":5,"temperature":0.7,"top_p":0.9,"seed":7,"limit":1}`, nil)
	if b := decoded[answer.Record](t, again); b.Answer != r.Answer {
		t.Errorf("the same seed said %q and %q", r.Answer, b.Answer)
	}
	for _, field := range []string{"run_id", "conversation_id", "answer", "citations", "passages", "usage", "timing", "memory", "finish_reason"} {
		if !strings.Contains(text, `"`+field+`":`) {
			t.Errorf("the answer has no %s", field)
		}
	}
}

func TestChatRefusesHonestly(t *testing.T) {
	s := newService(t, nil).withFacts()
	before := models.engine.Stats()
	events := s.stream(`{"question":"Which programming language has generics since version 1.18?"}`).rest()
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = e.Name
	}
	if !reflect.DeepEqual(names, []string{"retrieval", "delta", "usage", "done"}) {
		t.Fatalf("events %v", names)
	}
	if d := decoded[answer.Delta](t, events[1].Data); d.Text != retrieve.RefusalText {
		t.Errorf("refused with %q", d.Text)
	}
	if d := decoded[answer.Done](t, events[3].Data); d.FinishReason != "refused" {
		t.Errorf("ended as %q", d.FinishReason)
	}
	if after := models.engine.Stats(); after.Prompt != before.Prompt {
		t.Error("the reader was asked all the same")
	}
}

func TestChatRefusesBadInput(t *testing.T) {
	s := newService(t, nil).withFacts()
	long := strings.Repeat("why ", 5000)
	for _, c := range []struct {
		name, body string
		status     int
		location   string
	}{
		{"nothing", ``, 400, ""},
		{"no JSON", `{`, 400, "body"},
		{"a list", `[]`, 422, "body"},
		{"no question", `{}`, 422, "body"},
		{"empty", `{"question":"  "}`, 422, "body.question"},
		{"too long", `{"question":"` + long + `"}`, 422, "body.question"},
		{"a number", `{"question":7}`, 422, "body.question"},
		{"null", `{"question":null}`, 422, "body.question"},
		{"NUL", `{"question":"a\u0000b"}`, 422, "body.question"},
		{"not UTF-8", "{\"question\":\"a\xff\"}", 400, "body"},
		{"twice", `{"question":"a","question":"b"}`, 400, "body.question"},
		{"another case", `{"question":"a","Question":"b"}`, 422, "body.Question"},
		{"unknown field", asked + `,"n":1000000}`, 422, "body.n"},
		{"limit 0", asked + `,"limit":0}`, 422, "body.limit"},
		{"limit below", asked + `,"limit":-1}`, 422, "body.limit"},
		{"limit above", asked + `,"limit":1000000}`, 422, "body.limit"},
		{"limit in words", asked + `,"limit":"many"}`, 422, "body.limit"},
		{"limit broken", asked + `,"limit":1.5}`, 422, "body.limit"},
		{"limit beyond", asked + `,"limit":1e300}`, 422, "body.limit"},
		{"max_tokens", asked + `,"max_tokens":1000000000}`, 422, "body.max_tokens"},
		{"max_tokens below", asked + `,"max_tokens":-5}`, 422, "body.max_tokens"},
		{"temperature below", asked + `,"temperature":-0.1}`, 422, "body.temperature"},
		{"temperature above", asked + `,"temperature":1e9}`, 422, "body.temperature"},
		{"temperature NaN", asked + `,"temperature":NaN}`, 400, "body"},
		{"temperature beyond", asked + `,"temperature":1e999}`, 400, "body.temperature"},
		{"top_p", asked + `,"top_p":0}`, 422, "body.top_p"},
		{"top_p above", asked + `,"top_p":1.01}`, 422, "body.top_p"},
		{"seed", asked + `,"seed":-1}`, 422, "body.seed"},
		{"cache", asked + `,"cache":"none"}`, 422, "body.cache"},
		{"budget", asked + `,"budget":"lots"}`, 422, "body.budget"},
		{"budget above", asked + `,"budget":"101%"}`, 422, "body.budget"},
		{"budget of nothing", asked + `,"budget":"0"}`, 422, "body.budget"},
		{"full in too little", asked + `,"cache":"full","budget":"64"}`, 422, "body.question"},
		{"collection", asked + `,"collection":"nowhere"}`, 404, ""},
		{"collection NUL", asked + `,"collection":"a\u0000"}`, 422, "body.collection"},
		{"conversation", asked + `,"conversation_id":"00000000-0000-4000-8000-000000000000"}`, 404, ""},
		{"no conversation", asked + `,"conversation_id":"../../etc/passwd"}`, 404, ""},
	} {
		for _, accept := range []string{"application/json", "text/event-stream"} {
			t.Run(c.name+" "+accept, func(t *testing.T) {
				response, text := s.request("POST", "/api/v1/chat", c.body, map[string]string{"Accept": accept, "Content-Type": "application/json"})
				if response.StatusCode != c.status || response.Header.Get("Content-Type") != "application/problem+json" {
					t.Fatalf("%d %s %s", response.StatusCode, response.Header.Get("Content-Type"), text)
				}
				p := decoded[Problem](t, text)
				if p.Status != c.status || p.Type == "" || p.Title == "" || p.Detail == "" {
					t.Fatalf("problem %s", text)
				}
				if c.location != "" && (len(p.Errors) == 0 || p.Errors[0].Location != c.location || p.Errors[0].Message == "") {
					t.Fatalf("the problem does not name %s: %s", c.location, text)
				}
			})
		}
	}
	if a, e := s.answers.Active(), models.engine.Stats(); a != 0 || e.Running+e.Queued != 0 {
		t.Errorf("%d runs and %+v are left of refused questions", a, e)
	}
	response, text := s.request("POST", "/api/v1/chat", "question=hello", map[string]string{"Content-Type": "text/plain"})
	if response.StatusCode != 415 {
		t.Errorf("plain text: %d %s", response.StatusCode, text)
	}
}

func TestChatDisconnectFreesTheSlot(t *testing.T) {
	s := newService(t, nil).withFacts()
	for _, when := range []string{"while reading", "while answering"} {
		t.Run(when, func(t *testing.T) {
			r := s.stream(asked + `,"max_tokens":400,"temperature":2}`)
			r.until("retrieval")
			if when == "while answering" {
				r.until("delta")
			}
			r.close()
			s.eventually("the slot is free", func() bool {
				e := models.engine.Stats()
				return e.Running+e.Queued == 0 && e.Promised == 0 && s.answers.Active() == 0
			})
			if record := storedRecord(t, s, r.run); record.FinishReason != "cancelled" {
				t.Errorf("stored as %q", record.FinishReason)
			}
		})
	}
}

// A later turn goes on from what was read: the passages of the turn before stay
// in the prompt, and it need not be read again.
func TestChatConversation(t *testing.T) {
	s := newService(t, nil).withFacts()
	converse := func() (first, second answer.Record) {
		_, text := s.request("POST", "/api/v1/chat", asked+`}`, nil)
		first = decoded[answer.Record](t, text)
		_, text = s.request("POST", "/api/v1/chat", `{"question":"And the toll for a bicycle?","conversation_id":"`+first.ConversationID+`"}`, nil)
		return first, decoded[answer.Record](t, text)
	}
	first, second := converse()
	if second.ConversationID != first.ConversationID || second.RunID == first.RunID {
		t.Fatalf("went on as %+v", second)
	}
	if second.Given != len(first.Passages) || !reflect.DeepEqual(second.Passages[:second.Given], first.Passages) {
		t.Errorf("%d passages were given, %+v; want those of the turn before, %+v", second.Given, second.Passages, first.Passages)
	}
	ids := map[int64]bool{}
	for _, p := range second.Passages {
		if ids[p.ID] {
			t.Errorf("passage %d is there twice", p.ID)
		}
		ids[p.ID] = true
	}
	if second.Usage.ReusedTokens < first.Usage.PromptTokens-256 || second.Usage.ReusedTokens == 0 {
		t.Errorf("%d tokens were reused of a first prompt of %d", second.Usage.ReusedTokens, first.Usage.PromptTokens)
	}
	if first.SearchText != "" || !strings.Contains(second.SearchText, "toll") || second.SearchText == second.Question {
		t.Errorf("searched for %q and %q", first.SearchText, second.SearchText)
	}
	if stored := storedRecord(t, s, second.RunID); !reflect.DeepEqual(stored, second) {
		t.Errorf("stored as %+v, answered %+v", stored, second)
	}
	_, again := converse()
	if again.Answer != second.Answer || again.SearchText != second.SearchText || again.Usage.PromptTokens != second.Usage.PromptTokens {
		t.Errorf("the same conversation again gave %+v, want %+v", again, second)
	}
}

func TestChatQueueFull(t *testing.T) {
	openModels(t)
	small, err := decode.Open(asset(reader), decode.Options{MaxSequences: 1, MaxQueue: 1, CacheMemory: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	s := newService(t, func(c *Config) { c.Engine = small }).withFacts()
	long := asked + `,"max_tokens":300,"temperature":3}`
	first := s.stream(long)
	first.until("delta")
	second := s.stream(long)
	second.until("retrieval")
	s.eventually("the second waits", func() bool { return small.Stats().Queued == 1 })
	response, text := s.request("POST", "/api/v1/chat", long, map[string]string{"Accept": "text/event-stream"})
	if response.StatusCode != 429 || response.Header.Get("Retry-After") == "" || response.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%d %v %s", response.StatusCode, response.Header, text)
	}
	first.close()
	second.close()
}

// A cache that asks what the question needs must be told where the question is.
func TestChatWithAQuestionAwareCache(t *testing.T) {
	s := newService(t, nil).withFacts()
	for _, cache := range []string{"vote", "snapkv"} {
		response, text := s.request("POST", "/api/v1/chat", asked+`,"cache":"`+cache+`","budget":"64"}`, nil)
		if response.StatusCode != 200 {
			t.Fatalf("%s: %d %s", cache, response.StatusCode, text)
		}
		record := decoded[answer.Record](t, text)
		if m := record.Memory; m.Cache != cache || m.EvictedTokens == 0 || m.HeldBytes > m.BudgetBytes || m.BudgetBytes >= m.FullCacheBytes {
			t.Errorf("%s: memory %+v", cache, m)
		}
		if cache == "vote" && !strings.Contains(record.Answer, "1974") && !strings.Contains(record.Answer, "Brandt") {
			t.Errorf("%s forgot what the question asks for: %q", cache, record.Answer)
		}
	}
}
