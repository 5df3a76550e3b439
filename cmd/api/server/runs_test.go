package server

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"lessrag/cmd/api/answer"
)

// long is a question whose answer is long enough to be interrupted.
const long = asked + `,"max_tokens":400,"temperature":3,"seed":1`

func TestRunCancel(t *testing.T) {
	s := newService(t, nil).withFacts()
	r := s.stream(long + `}`)
	r.until("delta")
	response, text := s.request("POST", "/api/v1/runs/"+r.run+"/cancel", "", nil)
	if response.StatusCode != 202 {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	told := decoded[answer.Record](t, text)
	events := r.rest()
	if last := events[len(events)-1]; last.Name != "done" || decoded[answer.Done](t, last.Data).FinishReason != "cancelled" {
		t.Fatalf("the stream ended with %+v", last)
	}
	if told.FinishReason != "cancelled" || told.Answer == "" || told.Answer != storedRecord(t, s, r.run).Answer {
		t.Errorf("cancelled as %+v", told)
	}
	if told.Usage.CompletionTokens == 0 || told.Memory.HeldBytes == 0 {
		t.Errorf("a cancelled answer says nothing of what it took: %+v", told.Report)
	}
	// Cancelling again changes nothing.
	if response, _ := s.request("POST", "/api/v1/runs/"+r.run+"/cancel", "", nil); response.StatusCode != 202 {
		t.Errorf("cancelled twice: %d", response.StatusCode)
	}
	if e := models.engine.Stats(); e.Running+e.Queued != 0 {
		t.Errorf("%+v after a cancelled answer", e)
	}
}

func TestRunResume(t *testing.T) {
	s := newService(t, nil).withFacts()
	first := s.stream(asked + `,"max_tokens":40,"temperature":2,"seed":3,"resumable":true}`)
	var text strings.Builder
	take := func(e sseEvent) {
		if e.Name == "delta" {
			text.WriteString(decoded[answer.Delta](t, e.Data).Text)
		}
	}
	take(first.until("delta"))
	first.close()

	second := s.openReading("GET", "/api/v1/runs/"+first.run+"/events", "", map[string]string{"Last-Event-ID": strconv.FormatInt(first.after, 10)})
	second.after = first.after // and so the ids must go on
	events := second.rest()
	for _, e := range events {
		take(e)
	}
	if last := events[len(events)-1]; last.Name != "done" || decoded[answer.Done](t, last.Data).FinishReason == "cancelled" {
		t.Fatalf("the resumed answer ended with %+v", last)
	}
	if record := storedRecord(t, s, first.run); record.Answer != text.String() {
		t.Errorf("read %q in two parts, stored %q", text.String(), record.Answer)
	}

	// A late reader gets all of it from the start.
	again := s.openReading("GET", "/api/v1/runs/"+first.run+"/events", "", nil)
	if all := again.rest(); len(all) != int(second.after) || all[0].Name != "retrieval" {
		t.Errorf("%d events of %d again", len(all), second.after)
	}
}

func TestRunLinger(t *testing.T) {
	s := newService(t, func(c *Config) { c.Linger = 50 * time.Millisecond }).withFacts()
	r := s.stream(long + `,"resumable":true}`)
	r.until("delta")
	r.close()
	s.eventually("the run that nobody came back for ends", func() bool { return s.answers.Active() == 0 })
	if record := storedRecord(t, s, r.run); record.FinishReason != "cancelled" {
		t.Errorf("it ended as %q", record.FinishReason)
	}
	s.eventually("its seat is free", func() bool {
		s.server.audience.mu.Lock()
		defer s.server.audience.mu.Unlock()
		return len(s.server.audience.seats) == 0
	})
}

func TestRunEventsOfAnOldRun(t *testing.T) {
	s := newService(t, nil).withFacts()
	_, text := s.request("POST", "/api/v1/chat", asked+`,"max_tokens":2}`, nil)
	old := decoded[answer.Record](t, text)
	// Another process, or this one later: the run is in the database only.
	s.answers.Forget()
	events := s.openReading("GET", "/api/v1/runs/"+old.RunID+"/events", "", map[string]string{"Last-Event-ID": "2"}).rest()
	if len(events) != 1 || events[0].Name != "gap" {
		t.Fatalf("events %+v", events)
	}
	if g := decoded[gap](t, events[0].Data); g.After != 2 || g.Next != 0 || g.Run != "/api/v1/runs/"+old.RunID {
		t.Errorf("gap %+v", g)
	}
	var record answer.Record
	s.get("/api/v1/runs/"+old.RunID, &record)
	if record.Answer != old.Answer {
		t.Errorf("kept %q of %q", record.Answer, old.Answer)
	}
}

func TestRunUnknown(t *testing.T) {
	s := newService(t, nil)
	for _, id := range []string{"00000000-0000-4000-8000-000000000000", "7", "..%2f..", "%00"} {
		for _, c := range [][2]string{{"GET", ""}, {"GET", "/events"}, {"POST", "/cancel"}} {
			response, text := s.request(c[0], "/api/v1/runs/"+id+c[1], "", nil)
			if response.StatusCode != 404 || response.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s run %s%s: %d %s", c[0], id, c[1], response.StatusCode, text)
			}
		}
	}
	for _, id := range []string{"x", "-1", "99999999999999999999"} {
		response, text := s.request("GET", "/api/v1/runs/00000000-0000-4000-8000-000000000000/events", "", map[string]string{"Last-Event-ID": id})
		if response.StatusCode != 422 || !strings.Contains(text, "header.Last-Event-ID") {
			t.Errorf("Last-Event-ID %s: %d %s", id, response.StatusCode, text)
		}
	}
}
