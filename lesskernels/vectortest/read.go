// Package vectortest reads the vectors that independent programs wrote for tests.
package vectortest

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"testing"
)

// Read decodes a gzipped JSON file into what v points at.
func Read(t testing.TB, path string, v any) {
	t.Helper()
	if err := json.Unmarshal(Unzip(t, path), v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// Unzip is the content of a gzipped file.
func Unzip(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return content
}
