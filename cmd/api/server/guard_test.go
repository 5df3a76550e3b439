package server

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAllowedHost(t *testing.T) {
	hosts := []string{"rag.example"}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8080": true, "LOCALHOST:1": true, "localhost.": true,
		"127.0.0.1": true, "127.0.0.1:8080": true, "127.9.9.9:1": true, "[::1]": true, "[::1]:8080": true,
		"[::ffff:127.0.0.1]:80": true,
		"rag.example":           true, "RAG.example:443": true,
		"": false, "evil.example": false, "evil.example:8080": false, "127.0.0.1.evil.example": false,
		"localhost.evil.example": false, "0.0.0.0": false, "169.254.169.254": false, "10.0.0.1:8080": false,
		"xrag.example": false, "rag.example.evil": false, "[::]": false, "2130706433": false, "0x7f.1": false,
	} {
		if got := allowedHost(host, hosts); got != want {
			t.Errorf("host %q: allowed is %v", host, got)
		}
	}
}

// guarded answers 204 to what the guard lets through.
func guarded() http.Handler {
	s := &Server{Config: Config{Log: slog.New(slog.DiscardHandler), MaxUpload: 10}}
	return s.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }))
}

func TestGuard(t *testing.T) {
	for _, c := range []struct {
		name, method, path, host string
		header                   map[string]string
		want                     int
	}{
		{"curl", "POST", "/api/v1/chat", "127.0.0.1:8080", nil, 204},
		{"the page itself", "POST", "/api/v1/chat", "localhost:8080", map[string]string{"Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-origin"}, 204},
		{"a rebound name", "GET", "/api/v1/documents", "evil.example:8080", nil, 403},
		{"another page", "POST", "/api/v1/chat", "127.0.0.1:8080", map[string]string{"Origin": "http://evil.example"}, 403},
		{"another port", "POST", "/api/v1/chat", "127.0.0.1:8080", map[string]string{"Origin": "http://127.0.0.1:3000"}, 403},
		{"a sandboxed page", "POST", "/api/v1/chat", "127.0.0.1:8080", map[string]string{"Origin": "null"}, 403},
		{"a file page", "POST", "/api/v1/chat", "127.0.0.1:8080", map[string]string{"Origin": "file://127.0.0.1:8080"}, 403},
		{"an image on another page", "GET", "/api/v1/documents", "127.0.0.1:8080", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403},
		{"a neighbour site", "DELETE", "/api/v1/documents/1", "127.0.0.1:8080", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"a link to the page", "GET", "/", "127.0.0.1:8080", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 204},
		{"a link to data", "GET", "/api/v1/documents", "127.0.0.1:8080", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, c.path, nil)
			r.Host = c.host
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			guarded().ServeHTTP(w, r)
			if w.Code != c.want {
				t.Fatalf("answered %d, want %d", w.Code, c.want)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Fatal("another origin is allowed")
			}
			if c.want == 403 && w.Header().Get("Content-Type") != "application/problem+json" {
				t.Fatalf("refused with %q", w.Header().Get("Content-Type"))
			}
		})
	}
}

func TestRecoverer(t *testing.T) {
	s := &Server{Config: Config{Log: slog.New(slog.DiscardHandler)}}
	panics := s.accessLog(s.recoverer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			_, _ = io.WriteString(w, "half")
		}
		panic("secret insides")
	})))

	w := httptest.NewRecorder()
	panics.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 500 || w.Header().Get("Content-Type") != "application/problem+json" || strings.Contains(w.Body.String(), "secret") {
		t.Fatalf("answered %d %q %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}

	defer func() {
		if cause := recover(); cause != http.ErrAbortHandler {
			t.Fatalf("a response that had begun ended with %v and not by cutting it", cause)
		}
	}()
	panics.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/begun", nil))
}
