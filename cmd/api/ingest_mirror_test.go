package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMirror: what is gone from a directory goes from the collection, and nothing else; an unchanged tree embeds nothing.
func TestMirror(t *testing.T) {
	data, root := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"docs/a.md": "# A\n\nThe lantern burns blue.", "docs/b.txt": "The bridge is long.", "other/c.md": "# C\n\nThe tower is tall."} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	first := runJSON[outcome](t, data, "ingest", root, "--json")
	if first.Ready != 3 || first.Failed != 0 || first.Removed != 0 {
		t.Fatalf("got %+v", first)
	}
	if err := os.Remove(filepath.Join(root, "docs/b.txt")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, "other/c.md")); err != nil {
		t.Fatal(err)
	}
	again := runJSON[outcome](t, data, "ingest", filepath.Join(root, "docs"), "--mirror", "--json")
	if again.Removed != 1 || again.Duplicates != 1 || again.Ready != 1 {
		t.Errorf("mirroring docs: %+v", again)
	}
	dry := runJSON[struct{ Files []string }](t, data, "ingest", root, "--dry-run", "--json")
	if len(dry.Files) != 1 || filepath.Base(dry.Files[0]) != "a.md" {
		t.Errorf("dry run: %+v", dry)
	}
	whole := runJSON[outcome](t, data, "ingest", root, "--mirror", "--json")
	if whole.Removed != 1 || whole.Duplicates != 1 {
		t.Errorf("mirroring all: %+v", whole)
	}
}
