// Package vectortest reads the vectors that independent programs wrote for tests.
package vectortest

import (
	"compress/gzip"
	"encoding/json"
	"os"
	"testing"
)

// Read decodes a gzipped JSON file into what v points at.
func Read(t testing.TB, path string, v any) {
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
	if err := json.NewDecoder(z).Decode(v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
