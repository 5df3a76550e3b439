package ingest_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"lessrag/cmd/api/postgres/pgtest"
	"lessrag/ingest"
	"lessrag/ingest/fetch"
)

// site is a server of pages that tests change.
type site struct {
	*httptest.Server
	mu    sync.Mutex
	pages map[string]string
	asked atomic.Int32
}

func newSite(t *testing.T, pages map[string]string) *site {
	t.Helper()
	s := &site{pages: pages}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		s.mu.Lock()
		page, ok := s.pages[r.URL.Path]
		s.mu.Unlock()
		to, moved := strings.CutPrefix(page, "→")
		switch {
		case !ok:
			http.NotFound(w, r)
		case moved:
			http.Redirect(w, r, to, http.StatusFound)
		default:
			fmt.Fprint(w, page)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) put(path, page string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[path] = page
}

// firstLoopback stands for the open internet: 127.0.0.1 and nothing else.
func firstLoopback(a netip.Addr) error {
	if a != netip.MustParseAddr("127.0.0.1") {
		return fmt.Errorf("%s: %w", a, fetch.ErrForbidden)
	}
	return nil
}

func newPageService(t *testing.T, pool *pgxpool.Pool, e ingest.Embedder) *ingest.Service {
	t.Helper()
	options := smallOptions
	options.Fetcher = fetch.NewWithin(options.MaxBytes, firstLoopback)
	s, err := ingest.New(pool, e, words{}, options)
	if err != nil {
		t.Fatal(err)
	}
	start(t, s)
	return s
}

func submitURLs(t *testing.T, s *ingest.Service, addresses ...string) ingest.Submission {
	t.Helper()
	got, err := s.SubmitURLs(t.Context(), "c", addresses)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestPages: what is found becomes a document, what is not fails with its reason, and a private address is never asked.
func TestPages(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skip("this machine has no second loopback address, which stands for a private one:", err)
	}
	var trespass atomic.Int32
	private := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { trespass.Add(1) })}
	go private.Serve(inner)
	t.Cleanup(func() { private.Close() })

	web := newSite(t, map[string]string{
		"/turtles": "<html><body><h1>Turtles</h1><p>They swim by night.<img src=http://" + inner.Addr().String() + "/pixel></body></html>",
		"/moved":   "→/turtles-here", "/turtles-here": "# Here\n\nTurtles of the shore.", "/in": "→http://" + inner.Addr().String() + "/", "/out": "→file:///etc/passwd",
		"/large": strings.Repeat("turtles ", 200_000), "/empty": "", "/loop": "→/loop",
	})
	s := newPageService(t, pgtest.New(t), &hashEmbedder{})
	paths := []string{"/turtles", "/moved", "/in", "/out", "/large", "/empty", "/loop", "/none"}
	var addresses []string
	for _, path := range paths {
		addresses = append(addresses, web.URL+path)
	}
	addresses = append(addresses, "http://"+inner.Addr().String()+"/", "http://nowhere.invalid/")
	sent := submitURLs(t, s, addresses...)
	if len(sent.Documents) != len(addresses) || sent.Documents[0].Name != web.URL+"/turtles" || sent.Documents[0].State != ingest.Queued {
		t.Fatalf("submission %+v", sent)
	}
	p := await(t, s, sent.IngestionID)
	if p.Total != len(addresses) || p.Ready != 2 {
		t.Errorf("%d ready of %d", p.Ready, p.Total)
	}
	reasons := map[string]string{"/in": "not public", "/out": "scheme", "/large": "larger", "/empty": "no text", "/loop": "redirects", "/none": "404", "/": "not public"}
	for _, d := range p.Documents {
		path := strings.TrimPrefix(strings.TrimPrefix(d.Name, web.URL), "http://"+inner.Addr().String())
		stage := "fetching"
		if path == "/empty" {
			stage = "extracting"
		}
		switch want, bad := reasons[path]; {
		case d.Name == "http://nowhere.invalid/":
			if d.State != ingest.Failed || !strings.Contains(d.Error, "nowhere.invalid") {
				t.Errorf("%s is %s: %q", d.Name, d.State, d.Error)
			}
		case bad && (d.State != ingest.Failed || d.Stage != stage || !strings.Contains(d.Error, want)):
			t.Errorf("%s is %s in %q: %q, want %q", path, d.State, d.Stage, d.Error, want)
		case !bad && (d.State != ingest.Ready || d.Chunks < 1):
			t.Errorf("%s is %s with %d passages: %q", path, d.State, d.Chunks, d.Error)
		}
		if path == "/moved" && d.Source != web.URL+"/turtles-here" {
			t.Errorf("the source of a page that moved is %q", d.Source)
		}
	}
	if trespass.Load() != 0 {
		t.Errorf("the private server was asked %d times", trespass.Load())
	}
}

// TestPagesChange: a page is asked for again, embedded again only where it differs, and its passages stay until then.
func TestPagesChange(t *testing.T) {
	e := &hashEmbedder{}
	pool := pgtest.New(t)
	s := newPageService(t, pool, e)
	web := newSite(t, map[string]string{"/a.md": essay("a", 2), "/b.md": essay("b", 2), "/z": string(zipOf(t, [2]string{"one.md", essay("one", 2)}, [2]string{"two.md", essay("two", 1)}))})
	a, b, z := web.URL+"/a.md", web.URL+"/b.md", web.URL+"/z"

	first := await(t, s, submitURLs(t, s, a, b, a).IngestionID)
	embedded := e.texts.Load()
	if first.Ready != 2 || embedded != int32(passages(2)*2) {
		t.Fatalf("%d ready, %d passages", first.Ready, embedded)
	}
	again := await(t, s, submitURLs(t, s, a, b).IngestionID)
	if again.Ready != 2 || e.texts.Load() != embedded || web.asked.Load() != 4 {
		t.Errorf("unchanged: %d ready, %d passages embedded, asked %d times", again.Ready, e.texts.Load()-embedded, web.asked.Load())
	}

	// One goes, the other changes: the passages of the first stay, those of the second are replaced.
	web.put("/b.md", essay("new", 3))
	web.mu.Lock()
	delete(web.pages, "/a.md")
	web.mu.Unlock()
	p := await(t, s, submitURLs(t, s, a, b).IngestionID)
	if p.Ready != 1 || p.Failed != 1 || e.texts.Load() != embedded+3 {
		t.Errorf("%d ready, %d failed, %d passages embedded", p.Ready, p.Failed, e.texts.Load()-embedded)
	}
	if n := count(t, pool, "SELECT count(*) FROM chunks"); n != 2+3 {
		t.Errorf("%d passages, want 5", n)
	}

	// A failed page that is tried again is fetched again, and what it had is embedded no more.
	web.put("/a.md", essay("a", 2))
	for _, d := range p.Documents {
		if d.Name == a {
			if err := s.Retry(t.Context(), d.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if p := await(t, s, p.ID); p.Ready != 2 || e.texts.Load() != embedded+3 {
		t.Errorf("tried again: %d ready, %d passages embedded", p.Ready, e.texts.Load()-embedded)
	}

	// A page with the content of a file is that file's document, until it differs.
	await(t, s, submit(t, s, "c", file("copy.md", essay("a", 2))).IngestionID)
	web.put("/b.md", essay("a", 2))
	p = await(t, s, submitURLs(t, s, b).IngestionID)
	if p.Ready != 1 || len(p.Documents[0].Also) != 2 || e.texts.Load() != embedded+3 {
		t.Errorf("a copy: %+v, %d passages embedded", p.Documents, e.texts.Load()-embedded)
	}
	web.put("/b.md", essay("b", 2))
	p = await(t, s, submitURLs(t, s, a, b).IngestionID)
	if p.Ready != 2 || p.Failed != 0 || count(t, pool, "SELECT count(*) FROM documents WHERE state <> 'ready' OR address <> ''") != 0 {
		t.Errorf("a copy that differs again: %+v", p)
	}

	// An archive is its files.
	p = await(t, s, submitURLs(t, s, z).IngestionID)
	if p.Ready != 2 || p.Total != 2 || !strings.HasPrefix(p.Documents[0].Name, z+"/") {
		t.Errorf("an archive: %+v", p)
	}
	web.put("/z", "PK\x03\x04 but damaged")
	p = await(t, s, submitURLs(t, s, z).IngestionID)
	if p.Failed != 1 || p.Total != 1 || p.Documents[0].Name != z || p.Documents[0].Error == "" {
		t.Errorf("a damaged archive: %+v", p)
	}
}

// TestPagesAreAskedForAgain where their server was in trouble.
func TestPagesAreAskedForAgain(t *testing.T) {
	var asked atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 || r.URL.Path == "/down" {
			http.Error(w, "later", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, essay("x", 1))
	}))
	t.Cleanup(web.Close)
	s := newPageService(t, pgtest.New(t), &hashEmbedder{})
	if p := await(t, s, submitURLs(t, s, web.URL+"/x").IngestionID); p.Ready != 1 || asked.Load() != 2 {
		t.Errorf("%+v after %d requests", p.Documents, asked.Load())
	}
	if p := await(t, s, submitURLs(t, s, web.URL+"/down").IngestionID); p.Failed != 1 || !strings.Contains(p.Documents[0].Error, "503") || asked.Load() != 5 {
		t.Errorf("%+v after %d requests", p.Documents, asked.Load())
	}
}

func TestSubmitURLsRefuses(t *testing.T) {
	pool := pgtest.New(t)
	s := newPageService(t, pool, &hashEmbedder{})
	for field, addresses := range map[string][]string{
		"urls":    nil,
		"urls[0]": {"ftp://a.example/"},
		"urls[1]": {"http://a.example/", "file:///etc/passwd"},
		"urls[2]": {"http://a.example/", "http://b.example/", "http://u:p@a.example/"},
		"urls[3]": {"http://a.example/", "http://b.example/", "http://c.example/", "http://a.example/" + strings.Repeat("x", 2000)},
	} {
		_, err := s.SubmitURLs(t.Context(), "c", addresses)
		if invalid, ok := errors.AsType[*ingest.InvalidError](err); !ok || invalid.Field != field {
			t.Errorf("%v: %v", addresses, err)
		}
	}
	if n := count(t, pool, "SELECT count(*) FROM documents"); n != 0 {
		t.Errorf("%d documents of refused submissions", n)
	}
}
