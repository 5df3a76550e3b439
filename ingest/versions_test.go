package ingest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"lessrag/cmd/api/postgres/pgtest"
	"lessrag/ingest"
)

// shown is what can be found under each document's name: a word of its passages.
func shown(t *testing.T, s *ingest.Service, names ...string) string {
	t.Helper()
	documents, _, err := s.Documents(t.Context(), ingest.Filter{Collection: "c"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range documents {
		text, err := s.Text(t.Context(), d.ID)
		if err != nil {
			text = err.Error()
		}
		got = append(got, fmt.Sprintf("%s=%s", d.Name, strings.Fields(text)[0]))
	}
	slices.Sort(got)
	return strings.Join(got, " ")
}

// TestContentsMoveBetweenNames: whatever becomes of files with equal contents, every name ends with its own
// content, and no content that was embedded is embedded again.
func TestContentsMoveBetweenNames(t *testing.T) {
	one, two, three := "one "+essay("x", 2), "two "+essay("y", 2), "three "+essay("z", 2)
	type step []ingest.File
	for _, c := range []struct {
		what     string
		steps    []step
		want     string
		names    string
		embedded int32 // passages
	}{
		{"a file becomes a copy of another", []step{{file("a", one), file("b", two)}, {file("a", two)}}, "b=two", "a b", 6},
		{"two files swap their contents", []step{{file("a", one), file("b", two)}, {file("a", two), file("b", one)}}, "a=two b=one", "a b", 6},
		{"three rotate", []step{{file("a", one), file("b", two), file("c", three)}, {file("a", two), file("b", three), file("c", one)}}, "a=two b=three c=one", "a b c", 9},
		{"one of two copies changes", []step{{file("a", one)}, {file("b", one)}, {file("a", two)}}, "a=two b=one", "a b", 6},
		{"the later of two copies changes", []step{{file("a", one)}, {file("b", one)}, {file("b", two)}}, "a=one b=two", "a b", 6},
		{"a renamed file", []step{{file("a", one)}, {file("b", one)}}, "a=one", "a b", 3},
		{"a copy that comes back", []step{{file("a", one), file("b", two)}, {file("a", two)}, {file("a", one)}}, "a=one b=two", "a b", 9},
	} {
		t.Run(c.what, func(t *testing.T) {
			e := &hashEmbedder{}
			s := newService(t, pgtest.New(t), e)
			start(t, s)
			for _, files := range c.steps {
				await(t, s, submit(t, s, "c", files...).IngestionID)
			}
			if got := shown(t, s); got != c.want {
				t.Errorf("shown %q, want %q", got, c.want)
			}
			names, err := s.Names(t.Context(), "c", "")
			if err != nil || strings.Join(names, " ") != c.names {
				t.Errorf("names %q, %v", names, err)
			}
			if n := e.texts.Load(); n != c.embedded {
				t.Errorf("%d passages were embedded, want %d", n, c.embedded)
			}
		})
	}
}

// TestContentOfADocumentThatWaits: a version with the content of another that is not ready yet ends ready too.
func TestContentOfADocumentThatWaits(t *testing.T) {
	s := newService(t, pgtest.New(t), &hashEmbedder{})
	one, two := "one "+essay("x", 2), "two "+essay("y", 2)
	submit(t, s, "c", file("a", one))
	other := submit(t, s, "c", file("b", two))
	last := submit(t, s, "c", file("a", two))
	start(t, s)
	await(t, s, last.IngestionID)
	await(t, s, other.IngestionID)
	if got := shown(t, s); got != "a=two b=two" {
		t.Errorf("shown %q", got)
	}
}

func TestDeleteNames(t *testing.T) {
	pool := pgtest.New(t)
	s := newService(t, pool, &hashEmbedder{})
	start(t, s)
	await(t, s, submit(t, s, "c", file("d/a", "one words"), file("d/b", "one words"), file("e", "two words")).IngestionID)
	for _, c := range []struct {
		names   []string
		deleted int
		want    string
	}{{[]string{"d/a", "none"}, 1, "d/b=one e=two"}, {[]string{"d/b", "e"}, 2, ""}, {nil, 0, ""}} {
		n, err := s.DeleteNames(t.Context(), "c", c.names)
		if got := shown(t, s); err != nil || n != c.deleted || got != c.want {
			t.Errorf("deleting %q: %d, %v, shown %q", c.names, n, err, got)
		}
	}
	if n := count(t, pool, "SELECT count(*) FROM chunks"); n != 0 {
		t.Errorf("%d passages are left", n)
	}
	if n, err := s.DeleteNames(t.Context(), "no such collection", []string{"a"}); n != 0 || err != nil {
		t.Errorf("of an unknown collection: %d, %v", n, err)
	}
}

func TestArchivesBecomeDocuments(t *testing.T) {
	pool := pgtest.New(t)
	s := newService(t, pool, &hashEmbedder{})
	start(t, s)
	good := ingest.File{Name: "a.zip", Source: "file:///a.zip", Metadata: map[string]any{"k": "v"},
		Content: zipOf(t, [2]string{"one.md", "# One\n\nwords"}, [2]string{"../up.md", "words"}, [2]string{"dir/two.txt", "two words"})}
	p := await(t, s, submitAny(t, s, "c", good, ingest.File{Name: "bad.zip", Content: good.Content[:len(good.Content)-40]}).IngestionID)
	got := map[string]ingest.Document{}
	for _, d := range p.Documents {
		got[d.Name] = d
	}
	if d := got["a.zip/one.md"]; d.State != ingest.Ready || d.Source != "file:///a.zip/one.md" || d.Metadata["k"] != "v" {
		t.Errorf("got %+v", d)
	}
	if d := got["a.zip/dir/two.txt"]; d.State != ingest.Ready {
		t.Errorf("got %+v", d)
	}
	bad := got["a.zip/../up.md"]
	if bad.State != ingest.Failed || bad.Stage != "unpacking" || !strings.Contains(bad.Error, "..") {
		t.Errorf("got %+v", bad)
	}
	if d := got["bad.zip"]; d.State != ingest.Failed || !strings.Contains(d.Error, "truncated") || len(got) != 4 {
		t.Errorf("%d documents, %+v", len(got), d)
	}
	if err := s.Retry(t.Context(), bad.ID); !errors.Is(err, ingest.ErrState) || !strings.Contains(err.Error(), "archive") {
		t.Errorf("retry of an entry: %v", err)
	}
	again := submitAny(t, s, "c", good)
	for _, d := range again.Documents {
		if d.State == ingest.Ready && !d.Duplicate {
			t.Errorf("%s is taken again", d.Name)
		}
	}
}

func TestSettingsOfACollection(t *testing.T) {
	pool := pgtest.New(t)
	s := newService(t, pool, &hashEmbedder{})
	start(t, s)
	await(t, s, submit(t, s, "c", file("a.md", essay("x", 8))).IngestionID)
	before := count(t, pool, "SELECT count(*) FROM chunks")
	for _, bad := range []ingest.Settings{{ChunkTokens: 3}, {ChunkMax: 10}, {ChunkOverlap: 39}, {Language: "klingon"}, {ChunkTokens: -1}} {
		if err := s.Configure(t.Context(), "c", bad); !errors.Is(err, ingest.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := s.Configure(t.Context(), "none", ingest.Settings{}); !errors.Is(err, ingest.ErrNotFound) {
		t.Errorf("an unknown collection: %v", err)
	}
	want := ingest.Settings{ChunkTokens: 10, ChunkMax: 12, ChunkOverlap: 1, Language: "german"}
	if err := s.Configure(t.Context(), "c", want); err != nil {
		t.Fatal(err)
	}
	collections, err := s.Collections(t.Context())
	if err != nil || collections[0].Settings != want {
		t.Errorf("got %+v, %v", collections, err)
	}
	n, err := s.Reingest(t.Context(), "c")
	if err != nil || n != 1 {
		t.Fatalf("%d documents are queued again, %v", n, err)
	}
	documents, _, err := s.Documents(t.Context(), ingest.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	awaitState(t, s, documents[0].ID, ingest.Ready)
	if after := count(t, pool, "SELECT count(*) FROM chunks"); after <= 2*before {
		t.Errorf("%d passages became %d", before, after)
	}
}
