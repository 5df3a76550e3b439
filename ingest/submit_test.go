package ingest_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"lessrag/cmd/api/postgres/pgtest"
	"lessrag/ingest"
)

func TestInvalidInputNamesItsField(t *testing.T) {
	s := newService(t, pgtest.New(t), &hashEmbedder{})
	good := file("a", "text")
	with := func(change func(*ingest.File)) []ingest.File {
		f := good
		change(&f)
		return []ingest.File{good, f}
	}
	for _, c := range []struct {
		field, collection string
		files             []ingest.File
	}{
		{"collection", "", []ingest.File{good}},
		{"collection", "a\x00b", []ingest.File{good}},
		{"collection", strings.Repeat("x", 129), []ingest.File{good}},
		{"documents", "c", nil},
		{"documents[1].name", "c", with(func(f *ingest.File) { f.Name = "" })},
		{"documents[1].name", "c", with(func(f *ingest.File) { f.Name = "  " })},
		{"documents[1].name", "c", with(func(f *ingest.File) { f.Name = "a\x00b" })},
		{"documents[1].name", "c", with(func(f *ingest.File) { f.Name = "a\nb" })},
		{"documents[1].name", "c", with(func(f *ingest.File) { f.Name = "\xff" })},
		{"documents[1].name", "c", with(func(f *ingest.File) { f.Name = strings.Repeat("x", 1025) })},
		{"documents[1].source", "c", with(func(f *ingest.File) { f.Source = "\x00" })},
		{"documents[1].media_type", "c", with(func(f *ingest.File) { f.MediaType = "\x1b" })},
		{"documents[1].name", "c", with(func(f *ingest.File) { f.Name, f.Content = good.Name, []byte("other content") })},
		{"documents[1].content", "c", with(func(f *ingest.File) { f.Content = make([]byte, 1<<20+1) })},
		{"documents[1].metadata", "c", with(func(f *ingest.File) { f.Metadata = map[string]any{"x": math.NaN()} })},
		{"documents[1].metadata", "c", with(func(f *ingest.File) { f.Metadata = map[string]any{"x": "a\x00"} })},
		{"documents[1].metadata", "c", with(func(f *ingest.File) { f.Metadata = map[string]any{"x": strings.Repeat("y", 1<<17)} })},
	} {
		_, err := s.Submit(t.Context(), c.collection, c.files)
		invalid, ok := errors.AsType[*ingest.InvalidError](err)
		if !ok || invalid.Field != c.field || !errors.Is(err, ingest.ErrInvalid) {
			t.Errorf("%s: got %v", c.field, err)
		}
	}
	if documents, _, err := s.Documents(t.Context(), ingest.Filter{}); err != nil || len(documents) != 0 {
		t.Errorf("refused submissions left %d documents, %v", len(documents), err)
	}
	// Names are data only, and an escaped backslash before u0000 is no NUL.
	odd := []ingest.File{{Name: "../../etc/passwd", Content: []byte("x"), Metadata: map[string]any{"x": `\u0000`}}}
	if _, err := s.Submit(t.Context(), "../c", odd); err != nil {
		t.Error(err)
	}
	for _, f := range []ingest.Filter{{State: "done"}, {Limit: -1}, {Limit: 1001}, {Cursor: "!"}, {Cursor: "eA"}, {Collection: "\x00"}} {
		if _, _, err := s.Documents(t.Context(), f); !errors.Is(err, ingest.ErrInvalid) {
			t.Errorf("listing %+v: %v", f, err)
		}
	}
}

func TestUnknownIdsAreNotFound(t *testing.T) {
	s := newService(t, pgtest.New(t), &hashEmbedder{})
	for _, id := range []string{"", "x", "'; DROP TABLE documents", "00000000-0000-0000-0000-000000000000", "\x00"} {
		_, err1 := s.Document(t.Context(), id)
		_, err2 := s.Text(t.Context(), id)
		_, err3 := s.Ingestion(t.Context(), id)
		for i, err := range []error{err1, err2, err3, s.Delete(t.Context(), id), s.Retry(t.Context(), id)} {
			if !errors.Is(err, ingest.ErrNotFound) {
				t.Errorf("id %q, method %d: %v", id, i, err)
			}
		}
	}
	if err := s.DeleteCollection(t.Context(), "none"); !errors.Is(err, ingest.ErrNotFound) {
		t.Errorf("unknown collection: %v", err)
	}
}

func TestAnotherEmbedderIsRefused(t *testing.T) {
	pool := pgtest.New(t)
	submit(t, newService(t, pool, &hashEmbedder{}), "c", file("a", "text"))
	_, err := newService(t, pool, &hashEmbedder{name: "other"}).Submit(t.Context(), "c", []ingest.File{file("b", "more")})
	refused, ok := errors.AsType[*ingest.EmbedderError](err)
	if !ok || refused.Have != "hash-of-words" || refused.Want != "other" || !errors.Is(err, ingest.ErrEmbedder) {
		t.Fatalf("got %v", err)
	}
	if _, err := ingest.New(pool, short{&hashEmbedder{}}, words{}, smallOptions); err == nil || !strings.Contains(err.Error(), "384") {
		t.Errorf("an embedder of another dimension: %v", err)
	}
}

type short struct{ *hashEmbedder }

func (short) Dim() int { return 3 }

func (short) Name() string { return "short" }

func TestDocumentsPages(t *testing.T) {
	s := newService(t, pgtest.New(t), &hashEmbedder{})
	want := map[string]bool{}
	for batch := range 3 { // documents of a batch are equally old
		var files []ingest.File
		for i := range 7 {
			name := fmt.Sprintf("%d-%d", batch, i)
			want[name] = true
			files = append(files, file(name, name))
		}
		submit(t, s, []string{"c", "d"}[batch%2], files...)
	}
	for _, limit := range []int{1, 2, 5, 21, 22, 1000} {
		seen := map[string]bool{}
		for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
			if pages > 30 {
				t.Fatal("the listing does not end")
			}
			documents, next, err := s.Documents(t.Context(), ingest.Filter{Cursor: cursor, Limit: limit})
			if err != nil {
				t.Fatal(err)
			}
			if len(documents) == 0 || len(documents) > limit {
				t.Fatalf("a page of %d, limit %d", len(documents), limit)
			}
			for _, d := range documents {
				if seen[d.Name] {
					t.Fatalf("%s is listed twice", d.Name)
				}
				seen[d.Name] = true
			}
			cursor = next
		}
		if len(seen) != len(want) {
			t.Errorf("limit %d: %d of %d documents are listed", limit, len(seen), len(want))
		}
	}
	documents, _, err := s.Documents(t.Context(), ingest.Filter{Collection: "d", State: ingest.Queued})
	if err != nil || len(documents) != 7 {
		t.Errorf("%d documents in d, %v", len(documents), err)
	}
	collections, err := s.Collections(t.Context())
	if err != nil || len(collections) != 2 || collections[0].Documents != 14 || collections[0].Embedder != "hash-of-words" || collections[1].Dimensions != dim {
		t.Errorf("got %+v, %v", collections, err)
	}
}

func TestSameDocumentMayChangeItsMetadata(t *testing.T) {
	s := newService(t, pgtest.New(t), &hashEmbedder{})
	f := file("a.md", "text")
	id := submit(t, s, "c", f).Documents[0].ID
	f.Metadata = map[string]any{"year": 2026.0}
	if again := submit(t, s, "c", f).Documents[0]; !again.Duplicate || again.ID != id {
		t.Errorf("got %+v", again)
	}
	if d, err := s.Document(t.Context(), id); err != nil || d.Metadata["year"] != 2026.0 {
		t.Errorf("got %+v, %v", d, err)
	}
}
