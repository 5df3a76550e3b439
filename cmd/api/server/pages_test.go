package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"lessrag/ingest"
)

// TestSubmitPages: pages come in like files, with progress and reasons, and nothing that is not public is asked.
func TestSubmitPages(t *testing.T) {
	var named atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bridge":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprintf(w, `<html><head><link rel=stylesheet href="/named.css"></head><body><h1>Bridge</h1><p>The Aurora bridge was opened by a heron.</p><img src="/named.png"></body></html>`)
		case "/in":
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusFound)
		case "/named.css", "/named.png":
			named.Add(1)
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	s := newService(t, func(c *Config) { c.AllowURLs = true })
	body := fmt.Sprintf(`{"collection":"facts","urls":[%q,%q,%q,"http://[::ffff:a9fe:a9fe]/","http://localhost.localdomain.invalid/"]}`, web.URL+"/bridge", web.URL+"/in", web.URL+"/none")
	response, text := s.request("POST", "/api/v1/documents/urls", body, nil)
	if response.StatusCode != 202 {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	sent := decoded[ingest.Submission](t, text)
	events := s.openReading("GET", "/api/v1/ingestions/"+sent.IngestionID+"/events", "", nil).rest()
	last := decoded[progress](t, events[len(events)-1].Data)
	if last.Total != 5 || last.Ready != 1 || last.Failed != 4 {
		t.Fatalf("ended at %+v", last)
	}
	for _, d := range last.Documents {
		want := map[string]string{"/in": "not public", "/none": "404", "http://[::ffff:a9fe:a9fe]/": "not public"}[strings.TrimPrefix(d.Name, web.URL)]
		if d.State == ingest.Failed && (d.Stage != "fetching" || !strings.Contains(d.Error, want)) {
			t.Errorf("%s failed in %q: %q, want %q", d.Name, d.Stage, d.Error, want)
		}
	}
	if named.Load() != 0 {
		t.Errorf("what a page names was fetched %d times", named.Load())
	}
	response, text = s.request("POST", "/api/v1/search", `{"query":"Who opened the Aurora bridge?","collection":"facts"}`, nil)
	if response.StatusCode != 200 || !strings.Contains(text, "heron") || !strings.Contains(text, web.URL+"/bridge") {
		t.Errorf("search: %d %s", response.StatusCode, text)
	}
}

// TestSubmitPagesRefuses: without the flag no address is taken, with it only web addresses are.
func TestSubmitPagesRefuses(t *testing.T) {
	off := newService(t, nil)
	response, text := off.request("POST", "/api/v1/documents/urls", `{"urls":["http://example.org/"]}`, nil)
	if response.StatusCode != 403 || !strings.Contains(text, "--allow-urls") || response.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("without the flag: %d %s", response.StatusCode, text)
	}
	on := newService(t, func(c *Config) { c.AllowURLs = true })
	for body, contains := range map[string]string{
		`{"urls":[]}`: "body.urls",
		`{"urls":["http://a.example/","gopher://a.example/"]}`: "body.urls[1]",
		`{"urls":["http://u:p@a.example/"]}`:                   "body.urls[0]",
		`{"urls":[7]}`:                                         "body.urls[0]",
		`{"url":"http://a.example/"}`:                          "body",
	} {
		response, text := on.request("POST", "/api/v1/documents/urls", body, nil)
		if response.StatusCode != 422 && response.StatusCode != 400 || !strings.Contains(text, contains) {
			t.Errorf("%s: %d %s", body, response.StatusCode, text)
		}
	}
	for _, s := range []*service{off, on} {
		var n int
		if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM documents`).Scan(&n); err != nil || n != 0 {
			t.Errorf("%d documents of refused requests (%v)", n, err)
		}
	}
}
