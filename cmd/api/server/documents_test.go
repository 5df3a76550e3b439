package server

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"lessrag/ingest"
	"lessrag/retrieve"
)

// form makes an upload of files by name; what it returns is body and header.
func form(t *testing.T, fields map[string]string, files ...[2]string) (string, map[string]string) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for k, v := range fields {
		if err := w.WriteField(k, v); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		part, err := w.CreateFormFile("file", f[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return body.String(), map[string]string{"Content-Type": w.FormDataContentType()}
}

func TestUpload(t *testing.T) {
	s := newService(t, nil)
	body, header := form(t, map[string]string{"collection": "facts"}, [2]string{"bridge.md", facts["bridge.md"]}, [2]string{"blank.md", " \n\n "})
	response, text := s.request("POST", "/api/v1/documents", body, header)
	if response.StatusCode != 202 {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	sent := decoded[ingest.Submission](t, text)
	if len(sent.Documents) != 2 || sent.Documents[0].Name != "bridge.md" || sent.Documents[0].Duplicate {
		t.Fatalf("submission %+v", sent)
	}

	// The progress is streamed to its end: one ready, one failed with a reason.
	r := s.openReading("GET", "/api/v1/ingestions/"+sent.IngestionID+"/events", "", nil)
	events := r.rest()
	last := decoded[progress](t, events[len(events)-1].Data)
	for _, e := range events {
		p := decoded[progress](t, e.Data)
		if e.Name != "progress" || p.Total != 2 || p.Ready+p.Failed+p.Pending != 2 {
			t.Fatalf("event %+v", e)
		}
	}
	if last.Ready != 1 || last.Failed != 1 || last.Pending != 0 {
		t.Fatalf("ended at %+v", last)
	}
	var told progress
	s.get("/api/v1/ingestions/"+sent.IngestionID, &told)
	if told.Ready != 1 || told.Failed != 1 || len(told.Documents) != 2 {
		t.Errorf("told %+v", told)
	}

	var list struct {
		Documents  []ingest.Document `json:"documents"`
		NextCursor string            `json:"next_cursor"`
	}
	s.get("/api/v1/documents?collection=facts&state=failed", &list)
	if len(list.Documents) != 1 || list.Documents[0].Name != "blank.md" || list.Documents[0].Error == "" || list.Documents[0].Stage == "" {
		t.Fatalf("failed documents %+v", list)
	}
	bad := list.Documents[0].ID
	if response, text := s.request("POST", "/api/v1/documents/"+bad+"/retry", "", nil); response.StatusCode != 202 {
		t.Errorf("retry: %d %s", response.StatusCode, text)
	}

	// Found, read at its offsets, and gone when deleted.
	response, text = s.request("POST", "/api/v1/search", `{"query":"Who opened the Aurora bridge?","collection":"facts"}`, nil)
	if response.StatusCode != 200 {
		t.Fatalf("search: %d %s", response.StatusCode, text)
	}
	found := decoded[struct {
		Passages []retrieve.Passage `json:"passages"`
		Timing   struct {
			EmbedMS  float64 `json:"embed_ms"`
			SearchMS float64 `json:"search_ms"`
			RerankMS float64 `json:"rerank_ms"`
			WidenMS  float64 `json:"widen_ms"`
		} `json:"timing"`
	}](t, text)
	if len(found.Passages) == 0 || found.Passages[0].Ranks.Vector != 1 || found.Passages[0].Ranks.Lexical != 1 || !(found.Timing.SearchMS > 0) {
		t.Fatalf("found %s", text)
	}
	p := found.Passages[0]
	response, text = s.request("GET", "/api/v1/documents/"+p.DocumentID+"/text", "", nil)
	if response.StatusCode != 200 || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/plain") ||
		response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Content-Disposition") != "attachment" ||
		!strings.Contains(response.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("text came as %d %v", response.StatusCode, response.Header)
	}
	if text[p.Start:p.End] != p.Text {
		t.Errorf("at its offsets stands %q and not %q", text[p.Start:p.End], p.Text)
	}
	for path, want := range map[string]int{"/api/v1/documents/" + p.DocumentID: 204, "/api/v1/documents/" + bad: 204} {
		if response, text := s.request("DELETE", path, "", nil); response.StatusCode != want {
			t.Errorf("DELETE %s: %d %s", path, response.StatusCode, text)
		}
	}
	s.get("/api/v1/documents?collection=facts", &list)
	if len(list.Documents) != 0 {
		t.Errorf("left after deletion: %+v", list.Documents)
	}
}

func TestSubmitJSON(t *testing.T) {
	s := newService(t, nil)
	body := `{"collection":"facts","documents":[{"name":"a.md","text":"# A\n\nThe lantern burns blue.","media_type":"text/markdown","metadata":{"year":1974}}]}`
	response, text := s.request("POST", "/api/v1/documents", body, nil)
	if response.StatusCode != 202 {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	first := decoded[ingest.Submission](t, text)
	_, text = s.request("POST", "/api/v1/documents", body, nil)
	again := decoded[ingest.Submission](t, text)
	if len(again.Documents) != 1 || !again.Documents[0].Duplicate || again.Documents[0].ID != first.Documents[0].ID {
		t.Errorf("handed in again: %+v", again)
	}
	var all struct{ Collections []ingest.Collection }
	s.get("/api/v1/collections", &all)
	if len(all.Collections) != 1 || all.Collections[0].Name != "facts" || all.Collections[0].Documents != 1 {
		t.Errorf("collections %+v", all)
	}
}

func TestDocumentsRefuse(t *testing.T) {
	s := newService(t, func(c *Config) { c.MaxUpload, c.MaxFiles = 4000, 2 })
	type sent struct {
		body   string
		header map[string]string
	}
	upload := func(fields map[string]string, files ...[2]string) sent {
		body, header := form(t, fields, files...)
		return sent{body, header}
	}
	cut := upload(nil, [2]string{"a.md", "text"})
	cut.body = cut.body[:len(cut.body)-20]
	small := [2]string{"a.md", "# A\n\nsome text"}
	for _, c := range []struct {
		name     string
		sent     sent
		status   int
		contains string
	}{
		{"no file", upload(map[string]string{"collection": "facts"}), 422, "body.file"},
		{"another field", upload(map[string]string{"folder": "x"}, small), 422, "body.folder"},
		{"too many", upload(nil, small, small, small), 422, "body.file"},
		{"too large", upload(nil, [2]string{"big.md", strings.Repeat("x", 5000)}), 413, "big.md"},
		{"too large together", upload(nil, [2]string{"a.md", strings.Repeat("x", 3000)}, [2]string{"b.md", strings.Repeat("y", 3000)}), 413, "b.md"},
		{"larger than any body", upload(nil, [2]string{"big.md", strings.Repeat("x", 3<<20)}), 413, ""},
		{"cut", cut, 400, "form"},
		{"no boundary", sent{"x", map[string]string{"Content-Type": "multipart/form-data"}}, 400, "form"},
		{"collection of nothing", upload(map[string]string{"collection": "a\x00"}, small), 422, "body.collection"},
		{"a long collection", upload(map[string]string{"collection": strings.Repeat("c", 5000)}, small), 422, "body.collection"},
		{"no documents", sent{`{"collection":"facts","documents":[]}`, nil}, 422, "body.documents"},
		{"no name", sent{`{"collection":"facts","documents":[{"text":"x"}]}`, nil}, 422, "body.documents[0]"},
		{"empty name", sent{`{"collection":"facts","documents":[{"name":"","text":"x"}]}`, nil}, 422, "body.documents[0].name"},
		{"text of a number", sent{`{"collection":"facts","documents":[{"name":"a","text":1}]}`, nil}, 422, "body.documents[0].text"},
		{"JSON too large", sent{`{"documents":[{"name":"a","text":"` + strings.Repeat("x", 5000) + `"}]}`, nil}, 413, ""},
		{"not JSON", sent{`documents`, nil}, 400, "body"},
	} {
		t.Run(c.name, func(t *testing.T) {
			response, text := s.request("POST", "/api/v1/documents", c.sent.body, c.sent.header)
			if response.StatusCode != c.status || response.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(text, c.contains) {
				t.Fatalf("%d %s", response.StatusCode, text)
			}
		})
	}
	var n int
	if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM documents`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d documents of refused requests (%v)", n, err)
	}

	for _, c := range []struct {
		method, path string
		status       int
		contains     string
	}{
		{"GET", "/api/v1/documents?state=lost", 422, "query.state"},
		{"GET", "/api/v1/documents?limit=0", 422, "query.limit"},
		{"GET", "/api/v1/documents?limit=1000000", 422, "query.limit"},
		{"GET", "/api/v1/documents?limit=x", 422, "query.limit"},
		{"GET", "/api/v1/documents?cursor=%21", 422, "query.cursor"},
		{"GET", "/api/v1/documents/7", 404, ""},
		{"GET", "/api/v1/documents/00000000-0000-4000-8000-000000000000", 404, ""},
		{"GET", "/api/v1/documents/00000000-0000-4000-8000-000000000000/text", 404, ""},
		{"POST", "/api/v1/documents/00000000-0000-4000-8000-000000000000/retry", 404, ""},
		{"DELETE", "/api/v1/documents/00000000-0000-4000-8000-000000000000", 404, ""},
		{"GET", "/api/v1/ingestions/x", 404, ""},
		{"GET", "/api/v1/ingestions/00000000-0000-4000-8000-000000000000/events", 404, ""},
		{"GET", "/api/v1/nothing", 404, "/api/v1/nothing"},
		{"GET", "/nothing.js", 404, ""},
		{"GET", "/js/", 404, ""},
		{"GET", "/js/../page.go", 404, ""},
		{"PUT", "/api/v1/chat", 405, "PUT"},
		{"POST", "/", 405, "POST"},
	} {
		response, text := s.request(c.method, c.path, "", nil)
		if response.StatusCode != c.status || response.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(text, c.contains) {
			t.Errorf("%s %s: %d %s %s", c.method, c.path, response.StatusCode, response.Header.Get("Content-Type"), text)
		}
	}
	for body, location := range map[string]string{
		`{"query":"","collection":"facts"}`:                     "body.query",
		`{"query":"x","collection":"facts","limit":0}`:          "body.limit",
		`{"query":"x","collection":"facts","limit":101}`:        "body.limit",
		`{"query":"x","collection":"facts","mode":"psychic"}`:   "body.mode",
		`{"query":"x","collection":"facts","filter":"all"}`:     "body.filter",
		`{"query":"x","collection":"facts","mode":"","mode":1}`: "body.mode",
	} {
		response, text := s.request("POST", "/api/v1/search", body, nil)
		if response.StatusCode/100 != 4 || response.StatusCode == http.StatusNotFound || !strings.Contains(text, location) {
			t.Errorf("search %s: %d %s", body, response.StatusCode, text)
		}
	}
}

func TestCollectionSettings(t *testing.T) {
	s := newService(t, nil)
	if response, text := s.request("POST", "/api/v1/documents", `{"collection":"facts","documents":[{"name":"a.md","text":"# A\n\nThe lantern burns blue."}]}`, nil); response.StatusCode != 202 {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		contains           string
	}{
		{"PUT", "/api/v1/collections/facts/settings", `{"chunk_tokens":100,"chunk_max":150,"language":"simple"}`, 204, ""},
		{"PUT", "/api/v1/collections/facts/settings", `{"chunk_tokens":1}`, 422, "settings"},
		{"PUT", "/api/v1/collections/facts/settings", `{"language":"klingon"}`, 422, "klingon"},
		{"PUT", "/api/v1/collections/none/settings", `{}`, 404, "none"},
		{"POST", "/api/v1/collections/none/reingest", ``, 404, "none"},
		{"POST", "/api/v1/collections/facts/reingest", ``, 202, "queued"},
		{"DELETE", "/api/v1/collections/facts", ``, 204, ""},
		{"DELETE", "/api/v1/collections/facts", ``, 404, "facts"},
	} {
		response, text := s.request(c.method, c.path, c.body, nil)
		if response.StatusCode != c.status || !strings.Contains(text, c.contains) {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, response.StatusCode, text)
		}
	}
}
