package web

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestFiles(t *testing.T) {
	page := Files()
	kinds := map[string]string{
		"/": "text/html", "/style.css": "text/css", "/icon.svg": "image/svg+xml",
		"/js/app.js": "text/javascript", "/js/theme.js": "text/javascript", "/vendor/marked.esm.js": "text/javascript",
	}
	for path, kind := range kinds {
		if page[path] == nil {
			t.Fatalf("%s is not served", path)
		}
		w := httptest.NewRecorder()
		page[path].ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		h := w.Header()
		if w.Code != 200 || !strings.HasPrefix(h.Get("Content-Type"), kind) || h.Get("ETag") == "" || h.Get("Content-Security-Policy") != policy {
			t.Errorf("%s: %d %v", path, w.Code, h)
		}
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("If-None-Match", h.Get("ETag"))
		w = httptest.NewRecorder()
		page[path].ServeHTTP(w, r)
		if w.Code != http.StatusNotModified || w.Body.Len() != 0 {
			t.Errorf("%s again: %d with %d bytes", path, w.Code, w.Body.Len())
		}
	}
	for path := range page {
		if strings.HasSuffix(path, ".go") || strings.Contains(path, "README") {
			t.Errorf("%s is served", path)
		}
	}
}

// The page must not name what its own policy forbids: then nothing would show it
// but a browser's console.
func TestPageKeepsItsPolicy(t *testing.T) {
	index, err := files.ReadFile("index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, forbidden := range []string{`<script>`, ` style=`, `<style`, ` onclick=`, `javascript:`, `https://`, `http://`} {
		if strings.Contains(string(index), forbidden) {
			t.Errorf("index.html has %q", forbidden)
		}
	}
	ids := regexp.MustCompile(`\$\("([a-z-]+)"\)`)
	app, err := files.ReadFile("js/app.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ids.FindAllStringSubmatch(string(app), -1) {
		if !strings.Contains(string(index), `id="`+m[1]+`"`) {
			t.Errorf("app.js looks for #%s, which index.html lacks", m[1])
		}
	}
	modules := regexp.MustCompile(`from "\./([a-z]+\.js)"|import "\.\./(vendor/[a-z.]+)"|from "\.\./(vendor/[a-z.]+)"`)
	page := Files()
	for path := range page {
		if !strings.HasPrefix(path, "/js/") {
			continue
		}
		source, err := files.ReadFile(path[1:])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range modules.FindAllStringSubmatch(string(source), -1) {
			want := "/js/" + m[1]
			if m[1] == "" {
				want = "/" + m[2] + m[3]
			}
			if page[want] == nil {
				t.Errorf("%s imports %s, which is not served", path, want)
			}
		}
	}
}

func TestVendoredFilesAreAsPublished(t *testing.T) {
	readme, err := os.ReadFile("vendor/README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| (\\S+\\.js) \\|.*`([0-9a-f]{64})`").FindAllStringSubmatch(string(readme), -1)
	entries, err := files.ReadDir("vendor")
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(entries) || len(rows) == 0 {
		t.Fatalf("%d files, %d of them listed", len(entries), len(rows))
	}
	for _, row := range rows {
		content, err := files.ReadFile("vendor/" + row[1])
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != row[2] {
			t.Errorf("%s has the sum %x, not the one that is listed", row[1], sum)
		}
	}
}
