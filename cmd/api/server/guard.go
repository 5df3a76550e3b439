package server

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5/middleware"
)

type requestIDKey struct{}

// requestID names every request, in the log and to the client.
func requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := rand.Text()[:16]
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

// accessLog writes one line for every request when it has ended.
func (s *Server) accessLog(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		seen := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		defer func() {
			level := slog.LevelInfo
			if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" || r.URL.Path == "/metrics" {
				level = slog.LevelDebug
			}
			s.Log.LogAttrs(r.Context(), level, "request",
				slog.Any("id", r.Context().Value(requestIDKey{})), slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Int("status", seen.Status()), slog.Int("bytes", seen.BytesWritten()), slog.Duration("took", time.Since(start)))
		}()
		next.ServeHTTP(seen, r)
	})
}

// recoverer turns a panic into a problem, or into a cut connection where the
// response has begun.
func (s *Server) recoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler {
				panic(cause)
			}
			s.Log.ErrorContext(r.Context(), "panic", "id", r.Context().Value(requestIDKey{}), "cause", cause, "stack", string(debug.Stack()))
			if w, ok := w.(middleware.WrapResponseWriter); ok && w.Status() != 0 {
				panic(http.ErrAbortHandler)
			}
			writeProblem(w, s.problem(errPanic))
		}()
		next.ServeHTTP(w, r)
	})
}

var errPanic = &Problem{Status: http.StatusInternalServerError, Detail: "something went wrong; the server's log says what"}

// guard lets in requests that were meant for this service: a page of another
// origin, or a name that was made to point here (DNS rebinding), is refused.
// There is no CORS: no other origin is ever allowed.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !allowedHost(r.Host, s.Hosts):
			writeProblem(w, &Problem{Status: http.StatusForbidden, Detail: "this service does not answer to the host name " + quoteHost(r.Host)})
		case !sameOrigin(r):
			writeProblem(w, &Problem{Status: http.StatusForbidden, Detail: "requests from other origins are refused"})
		default:
			r.Body = http.MaxBytesReader(w, r.Body, s.MaxUpload+1<<20) // and some for the frame of an upload
			next.ServeHTTP(w, r)
		}
	})
}

// allowedHost tells whether a Host header names this service: a loopback
// name or address, or one of hosts, with any port.
func allowedHost(host string, hosts []string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	if name == "localhost" {
		return true
	}
	if ip, err := netip.ParseAddr(name); err == nil && ip.Unmap().IsLoopback() {
		return true
	}
	for _, h := range hosts {
		if name == strings.ToLower(h) {
			return true
		}
	}
	return false
}

// sameOrigin tells whether a browser sent the request for a page of this
// service, or something that is no browser did.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		// Following a link from elsewhere to the page itself is fine.
		return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.URL.Path == "/"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && strings.EqualFold(u.Host, r.Host)
}

// quoteHost shows a refused name without letting it be long.
func quoteHost(host string) string {
	return "“" + host[:min(len(host), 100)] + "”"
}

// securityHeaders go with every response; the page adds its own policy.
func securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
		next.ServeHTTP(w, r)
	})
}

// refuseWhenStopping takes no new work once Shutdown has begun.
func (s *Server) refuseWhenStopping(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stopping.Load() && r.Method != http.MethodGet && r.Method != http.MethodHead && !strings.HasSuffix(r.URL.Path, "/cancel") {
			w.Header().Set("Connection", "close")
			writeProblem(w, &Problem{Status: http.StatusServiceUnavailable, Detail: "the service is stopping", retryAfter: 5 * time.Second})
			return
		}
		next.ServeHTTP(w, r)
	})
}
