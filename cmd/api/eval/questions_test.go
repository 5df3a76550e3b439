package eval

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadQuestions(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"good", `{"question":"Why?","answers":["so"],"source":"a.md"}` + "\n\n" + `{"question":"How?","source":"b.md","section":"Like this."}` + "\n", ""},
		{"no JSON", `{"question":"Why?","source":"a"}` + "\nWhy?\n", "line 2"},
		{"an unknown field", `{"question":"Why?","source":"a","anwsers":[]}`, "anwsers"},
		{"no question", `{"source":"a"}`, "line 1"},
		{"no source", `{"question":"Why?"}`, "line 1"},
		{"nothing", "\n", "no questions"},
		{"a line without end", strings.Repeat("x", maxLine+1), "line 1"},
	} {
		path := filepath.Join(t.TempDir(), "set.jsonl")
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		questions, err := ReadQuestions(path, true)
		switch {
		case test.want == "" && (err != nil || len(questions) != 2 || questions[1].Section != "Like this."):
			t.Errorf("%s: %v, %v", test.name, questions, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: error %v does not say %q", test.name, err, test.want)
		}
	}
}
