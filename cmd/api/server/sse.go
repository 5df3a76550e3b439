package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// stream writes server-sent events (the WHATWG HTML standard's
// text/event-stream). Data is JSON on one line, so nothing in it can end an
// event or begin another. It is used by one goroutine.
type stream struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	within time.Duration // for one write
	err    error         // the first failed write; later ones do nothing
}

// openStream sends the headers, so that the client knows at once that its
// request was taken.
func openStream(w http.ResponseWriter, within time.Duration) *stream {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx would collect events otherwise
	s := &stream{w: w, rc: http.NewResponseController(w), within: within}
	w.WriteHeader(http.StatusOK)
	s.write("")
	return s
}

// event sends one event; id 0 sends none, so that the client's last id stays.
// name is one of ours, never a client's text.
func (s *stream) event(id int64, name string, data any) error {
	line, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write event %s: %w", name, err)
	}
	head := ""
	if id > 0 {
		head = "id: " + strconv.FormatInt(id, 10) + "\n"
	}
	return s.write(head + "event: " + name + "\ndata: " + string(line) + "\n\n")
}

// heartbeat is a comment: clients ignore it, proxies see a living stream.
func (s *stream) heartbeat() error { return s.write(": alive\n\n") }

// write sends text and flushes it, within the time that a slow reader has.
func (s *stream) write(text string) error {
	if s.err != nil {
		return s.err
	}
	if s.err = s.rc.SetWriteDeadline(time.Now().Add(s.within)); s.err != nil {
		return s.err
	}
	if _, s.err = s.w.Write([]byte(text)); s.err != nil {
		return s.err
	}
	s.err = s.rc.Flush()
	return s.err
}
