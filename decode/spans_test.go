package decode

import (
	"reflect"
	"testing"
)

func TestSpans(t *testing.T) {
	pieces := []string{"<s>", "[1", "]", " a", " long", " name\n", "\n", "[2]", "é", " a", " end", ""}
	tokens := make([]int32, len(pieces))
	for i := range tokens {
		tokens[i] = int32(i)
	}
	for _, test := range []struct {
		texts []string
		want  [][2]int
	}{
		{[]string{" a long name\n"}, [][2]int{{3, 6}}},
		{[]string{"<s>"}, [][2]int{{0, 1}}},
		{[]string{" a", " a"}, [][2]int{{3, 4}, {9, 10}}},
		{[]string{"long name", "é a"}, [][2]int{{5, 5}, {8, 10}}}, // " long" begins before, " name\n" ends after
		{[]string{"not there", " long"}, [][2]int{{0, 0}, {4, 5}}},
		{[]string{" end"}, [][2]int{{10, 11}}},
		{[]string{""}, [][2]int{{0, 0}}},
	} {
		if got := Spans(func(token int32) []byte { return []byte(pieces[token]) }, tokens, test.texts); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: %v, want %v", test.texts, got, test.want)
		}
	}
}
