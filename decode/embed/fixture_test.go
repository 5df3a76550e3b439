package embed

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"lessrag/lesskernels/cpu"
)

// embedderDir is where make fetch puts the embedder.
func embedderDir(t testing.TB) string {
	t.Helper()
	assets := os.Getenv("LESSRAG_ASSETS")
	if assets == "" {
		assets = filepath.Join("..", "..", "assets")
	}
	dir := filepath.Join(assets, "embedders", "all-MiniLM-L6-v2")
	if _, err := os.Stat(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatalf("%v: run make fetch", err)
	}
	return dir
}

func openModel(t testing.TB) *Model {
	t.Helper()
	pool := cpu.NewPool(2)
	t.Cleanup(pool.Close)
	m, err := Open(embedderDir(t), pool)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fixtureTexts are the 200 texts of testdata/make_fixture.py.
func fixtureTexts(t testing.TB) []string {
	t.Helper()
	data, err := os.ReadFile("testdata/texts.json")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		t.Fatal(err)
	}
	if len(texts) != 200 {
		t.Fatalf("%d texts, want 200", len(texts))
	}
	return texts
}
