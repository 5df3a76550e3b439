// Package web is the page: HTML, CSS and native ES modules, embedded as they
// are and served with a policy that lets nothing else run.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed index.html style.css icon.svg js/*.js vendor/*.js
var files embed.FS

// policy lets the page run its own modules and talk to its own server. Trusted
// types make the browser refuse any HTML that DOMPurify has not passed.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types dompurify"

// Page is a set of files by the paths that they are served at.
type Page map[string]http.Handler

// Files returns the page: "/", "/style.css", "/js/app.js" and so on.
func Files() Page {
	page := Page{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		at := "/" + name
		if name == "index.html" {
			at = "/"
		}
		page[at] = file(name, content)
		return nil
	})
	if err != nil {
		panic(fmt.Sprintf("the embedded page cannot be read: %v", err))
	}
	return page
}

// file serves one embedded file. Browsers ask each time whether it is still
// the same, and get 304 while it is.
func file(name string, content []byte) http.Handler {
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:12]) + `"`
	kind := mime.TypeByExtension(path.Ext(name))
	if strings.HasSuffix(name, ".js") {
		kind = "text/javascript; charset=utf-8" // whatever the machine's own list says
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}
