package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// sseEvent is one event as a client reads it.
type sseEvent struct {
	ID, Name, Data string
}

// parseEvents reads text/event-stream as the HTML standard says; comments are
// counted.
func parseEvents(text string) (events []sseEvent, comments int) {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	var id string
	var e sseEvent
	var data []string
	for line := range strings.SplitSeq(text, "\n") {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if data != nil {
				e.ID, e.Data = id, strings.Join(data, "\n")
				events = append(events, e)
			}
			e, data = sseEvent{}, nil
		case field == "":
			comments++
		case field == "id":
			id = value
		case field == "event":
			e.Name = value
		case field == "data":
			data = append(data, value)
		}
	}
	return events, comments
}

func TestStreamCannotBeForged(t *testing.T) {
	for _, text := range []string{
		"plain", "a\nb", "a\r\nid: 99\r\nevent: done\r\n\r\n", "\r\rdata: x\r\r", "\u2028data: x\u2029", "\n\nevent: error\ndata: {}\n\n",
		"\x00\x01", "</script>", "\"}\n\ndata: {\"",
	} {
		w := httptest.NewRecorder()
		s := openStream(deadliner{w}, time.Minute)
		if err := s.event(3, "delta", map[string]string{"text": text}); err != nil {
			t.Fatal(err)
		}
		if err := s.heartbeat(); err != nil {
			t.Fatal(err)
		}
		if err := s.event(4, "done", map[string]string{}); err != nil {
			t.Fatal(err)
		}
		events, comments := parseEvents(w.Body.String())
		if len(events) != 2 || comments != 1 || events[0].ID != "3" || events[0].Name != "delta" || events[1].ID != "4" || events[1].Name != "done" {
			t.Fatalf("%q made %q", text, events)
		}
		var got struct{ Text string }
		if err := json.Unmarshal([]byte(events[0].Data), &got); err != nil || got.Text != text {
			t.Fatalf("%q arrived as %q (%v)", text, got.Text, err)
		}
	}
}

// deadliner is a recorder that takes deadlines, as a connection does.
type deadliner struct{ *httptest.ResponseRecorder }

func (deadliner) SetWriteDeadline(time.Time) error { return nil }

func TestStreamHeaders(t *testing.T) {
	w := httptest.NewRecorder()
	openStream(deadliner{w}, time.Minute)
	if !w.Flushed {
		t.Fatal("the headers wait for the first event")
	}
	for k, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no",
	} {
		if got := w.Header().Get(k); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
}

// A reader that takes nothing ends its stream; it holds nobody up for ever.
func TestSlowReader(t *testing.T) {
	ended := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := openStream(w, 50*time.Millisecond)
		line := strings.Repeat("x", 1<<16)
		for s.event(1, "delta", line) == nil {
		}
		ended <- s.err
	}))
	defer srv.Close()
	response, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Fatal("the stream ended without a reason")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a reader that takes nothing holds its stream for ever")
	}
}
