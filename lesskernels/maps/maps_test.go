package maps

import (
	"io/fs"
	"strings"
	"testing"
)

// Every shipped file is whole, and is named after the model that it is for.
func TestShipped(t *testing.T) {
	names, err := fs.Glob(shipped, "shipped/*")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		model, ok := strings.CutSuffix(strings.TrimPrefix(name, "shipped/"), ".less")
		if !ok {
			if name != "shipped/README.md" {
				t.Errorf("%s is shipped, and nothing reads it", name)
			}
			continue
		}
		m, err := For(model)
		if err != nil || m == nil || !strings.HasPrefix(m.Header.Model, model) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, model := range []string{"", "../README.md", strings.Repeat("0", 64)} {
		if m, err := For(model); m != nil || err != nil {
			t.Errorf("model %q: %v, %v", model, m, err)
		}
	}
}
