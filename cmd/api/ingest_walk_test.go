package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lessrag/ingest"
)

// tree makes files in a new directory and goes there, so that paths are short.
func tree(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWalkTakesDocuments(t *testing.T) {
	tree(t, map[string]string{
		"d/a.md": "words", "d/b.go": "package b", "d/odd": "words", "d/c.pdf": "%PDF-1.4", "d/p.png": "\x89PNG\r\n\x1a\n", "d/bin": strings.Repeat("\x00\x01", 100),
		"d/.git/x.md": "words", "d/.hidden.md": "words", "d/sub/e.txt": "words", "d/sub/skip.txt": "words", "d/sub/keep.txt": "words", "d/build/f.md": "words",
		"d/.gitignore": "build/\n# comment\n\n*.tmp\n/odd\n", "d/sub/.lessragignore": "*.txt\n!keep.txt\n", "d/sub/odd": "words", "d/x.tmp": "words", "alone.png": "\x89PNG\r\n\x1a\n",
	})
	for _, c := range []struct {
		s       selection
		paths   []string
		want    string
		skipped int
	}{
		{selection{}, []string{"d", "d/a.md", "./d/"}, "d/a.md d/b.go d/c.pdf d/sub/keep.txt d/sub/odd", 2 * 2},
		{selection{NoIgnore: true}, []string{"d/sub"}, "d/sub/e.txt d/sub/keep.txt d/sub/odd d/sub/skip.txt", 0},
		{selection{Include: []string{"**/*.txt", "a.*"}}, []string{"d"}, "d/a.md d/sub/keep.txt", 5},
		{selection{Exclude: []string{"sub", "*.go"}}, []string{"d"}, "d/a.md d/c.pdf", 2},
		{selection{}, []string{"alone.png"}, "alone.png", 0},
	} {
		f, err := c.s.walk(c.paths)
		if got := strings.Join(f.paths, " "); err != nil || got != c.want || f.skipped != c.skipped {
			t.Errorf("%+v of %v: %q, %d skipped, %v; want %q and %d", c.s, c.paths, got, f.skipped, err, c.want, c.skipped)
		}
	}
	if _, err := (selection{}).walk([]string{"none"}); err == nil {
		t.Error("a path that is not there is no error")
	}
	if err := (selection{Exclude: []string{"[a"}}).check(); err == nil {
		t.Error("a glob that does not parse is no error")
	}
}

func TestIgnoreRules(t *testing.T) {
	for _, c := range []struct {
		lines, path string
		dir, want   bool
	}{
		{"*.log", "a/b.log", false, true}, {"/a.log", "b/a.log", false, false}, {"/a.log", "a.log", false, true}, {"a/b", "c/a/b", false, false},
		{"x/", "x", false, false}, {"x/", "x", true, true}, {"*.log\n!b.log", "b.log", false, false}, {"!b.log\n*.log", "b.log", false, true},
		{"doc/**/x.txt", "doc/a/b/x.txt", false, true}, {"[", "[", false, false}, {"a ", "a", false, true}, {"", "a", false, false},
	} {
		var r ignoreRules
		for line := range strings.Lines(c.lines) {
			if rule, ok := parseIgnore(line, "."); ok {
				r.rules = append(r.rules, rule)
			}
		}
		if got := r.match(c.path, c.dir); got != c.want {
			t.Errorf("%q on %q: %v", c.lines, c.path, got)
		}
	}
}

func TestChanges(t *testing.T) {
	at := time.Now()
	stamped := func(size int64, age time.Duration) stamp { return stamp{size: size, modified: at.Add(-age)} }
	old, young := stamped(1, time.Hour), stamped(2, 0)
	before := found{files: map[string]stamp{"same": old, "gone": old, "changed": old, "writing": old}}
	walked := func() found {
		return found{files: map[string]stamp{"same": old, "changed": stamped(1, time.Minute), "writing": young, "new": stamped(3, time.Minute), "fresh": young}}
	}
	now := walked()
	changed, gone := changes(before, now, at)
	if strings.Join(changed, " ") != "changed new" || gone {
		t.Errorf("got %q, %v: what is missed for the first time is not gone yet", changed, gone)
	}
	now.wait(before, changed)
	if now.files["writing"] != old || !now.holds("gone") || now.holds("fresh") || now.files["changed"] == old {
		t.Errorf("kept %+v", now.files)
	}

	// The next round: what was being written is settled, and what is missed again is gone.
	next := walked()
	changed, gone = changes(now, next, at.Add(2*settled))
	if strings.Join(changed, " ") != "fresh writing" || !gone {
		t.Errorf("got %q, %v", changed, gone)
	}
	next.wait(now, changed)
	if next.holds("gone") {
		t.Error("what is gone is kept")
	}
	if changed, gone := changes(next, walked(), at.Add(2*settled)); len(changed) != 0 || gone {
		t.Errorf("between equals: %q, %v", changed, gone)
	}

	// A file that comes back is taken again, and is not gone.
	back := walked()
	back.files["gone"] = old
	if changed, gone := changes(now, back, at); strings.Join(changed, " ") != "gone" || gone {
		t.Errorf("one that came back: %q, %v", changed, gone)
	}
}

func TestIngestFlagsThatDoNotFit(t *testing.T) {
	tree(t, map[string]string{"urls": "# list\n\nhttps://example.org/a\n"})
	for want, c := range map[string]ingestCmd{
		"--allow-urls": {Paths: []string{"https://example.org"}},
		"only with":    {URLList: "urls"},
		"name files":   {},
		"choose one":   {Paths: []string{"."}, Watch: true, JSON: true},
		"directory":    {Paths: []string{"http://example.org"}, AllowURLs: true, Mirror: true},
		"not a glob":   {Paths: []string{"."}, selection: selection{Include: []string{"{"}}},
	} {
		_, err := c.addresses()
		if err == nil || !strings.Contains(err.Error(), want) || !usedWrongly(err) {
			t.Errorf("%s: %v", want, err)
		}
	}
	c := ingestCmd{Paths: []string{"."}, URLList: "urls", AllowURLs: true}
	if urls, err := c.addresses(); err != nil || len(urls) != 1 || urls[0] != "https://example.org/a" {
		t.Errorf("got %q, %v", urls, err)
	}
}

func TestReporterSpeaksInPlainLines(t *testing.T) {
	var b bytes.Buffer
	began := time.Now().Add(-10 * time.Second)
	r := &reporter{w: &b, total: 4, began: began, last: began}
	eta := 5 * time.Second
	r.show(statusOf(ingest.Progress{Ready: 1, Failed: 1, Pending: 3, ETA: &eta, Documents: []ingest.Document{
		{Name: "a", State: ingest.Ready}, {Name: "b", State: ingest.Queued}, {Name: "c.md", State: ingest.Embedding}}}))
	if want := "ingesting: 2 of 5 documents, 1 failed, 0.2 a second, 5s left; embedding c.md\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	r.show(status{done: 3})
	if strings.Count(b.String(), "\n") != 1 {
		t.Errorf("lines come too often: %q", b.String())
	}
}

func TestReporterTellsThatOthersComeFirst(t *testing.T) {
	var b bytes.Buffer
	r := &reporter{w: &b, total: 2}
	waits := statusOf(ingest.Progress{Pending: 2, Ahead: 7, Documents: []ingest.Document{{Name: "a", State: ingest.Queued}, {Name: "b", State: ingest.Queued}}})
	last := statusOf(ingest.Progress{Pending: 1, Ahead: 9}) // behind the two as well
	for _, s := range []status{waits.plus(last), {pending: 3}, {pending: 3, ahead: 1}} {
		r.last = time.Time{}
		r.show(s)
	}
	r.last = time.Time{}
	r.show(status{pending: 3, ahead: 1}) // nothing new
	var got []string
	for line := range strings.Lines(b.String()) {
		_, what, _ := strings.Cut(strings.TrimSpace(line), "; ")
		got = append(got, what)
	}
	if want := []string{"behind 7 documents that were queued before", "", "behind 1 documents that were queued before"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if s := (status{ahead: 7, done: 2}).plus(last); s.ahead != 9 {
		t.Errorf("an ingestion that has ended stands behind nothing, got %d", s.ahead)
	}
}
