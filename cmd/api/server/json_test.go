package server

import (
	"strings"
	"testing"
)

func TestStrictJSON(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"one object", `{"a":[1,{"b":2}],"c":{"a":1}}`, ""},
		{"a number", ` 7 `, ""},
		{"twice", `{"question":"a","limit":1,"question":"b"}`, "body.question: is there twice"},
		{"twice inside", `{"documents":[{"name":"a"},{"name":"a","name":"b"}]}`, "body.documents[1].name: is there twice"},
		{"twice by escape", `{"limit":1,"\u006cimit":2}`, "body.limit: is there twice"},
		{"after it", `{} {}`, "one JSON value"},
		{"cut", `{"a":`, "ends too early"},
		{"empty", ``, "ends too early"},
		{"not JSON", `{a:1}`, "is not JSON"},
		{"not UTF-8", "{\"a\":\"\xff\"}", "UTF-8"},
		{"not a number", `{"temperature":NaN}`, "is not JSON"},
		{"deep", strings.Repeat("[", 100000), "nested more than"},
		{"deep and whole", strings.Repeat("[", 80) + strings.Repeat("]", 80), "nested more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v any
			err := strictJSON.Unmarshal([]byte(c.in), &v)
			switch {
			case c.want == "" && err != nil:
				t.Fatalf("refused: %v", err)
			case c.want != "" && err == nil:
				t.Fatalf("accepted as %v", v)
			case c.want != "" && !strings.Contains(err.Error(), c.want):
				t.Fatalf("%q does not say %q", err, c.want)
			}
		})
	}
}

func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,{"b":null}]}`, `{"a":1,"a":2}`, `[[[]]]`, `"\ud800"`, "\xff", `1e999`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		if strictJSON.Unmarshal(data, &v) != nil {
			return
		}
		var again strings.Builder
		if err := strictJSON.Marshal(&again, v); err != nil {
			t.Fatalf("accepted %q but cannot write it: %v", data, err)
		}
		if err := strictJSON.Unmarshal([]byte(again.String()), &v); err != nil {
			t.Fatalf("accepted %q but not its own %q: %v", data, again.String(), err)
		}
	})
}
