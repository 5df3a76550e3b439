package decode

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// stream pushes pieces and returns the texts that came out, the last one by flush
// unless a stop string was met.
func stream(stops []string, pieces ...string) (texts []string, stopped bool) {
	s := newTextStream(stops)
	for _, piece := range pieces {
		text, stop := s.push([]byte(piece))
		texts = append(texts, text)
		if stop {
			return texts, true
		}
	}
	return append(texts, s.flush()), false
}

func TestTextStream(t *testing.T) {
	for _, test := range []struct {
		name    string
		stops   []string
		pieces  []string
		want    string // texts, joined by |
		stopped bool
	}{
		{"plain", nil, []string{"one", " two"}, "one| two|", false},
		{"stop across tokens", []string{"END"}, []string{"a E", "N", "D b"}, "a ||", true},
		{"held back, then not a stop", []string{"END"}, []string{"a E", "N", "T"}, "a ||ENT|", false},
		{"held back to the end", []string{"END"}, []string{"a EN"}, "a |EN", false},
		{"a beginning inside a beginning", []string{"aab"}, []string{"aa", "a", "b", "x"}, "|a|", true},
		{"the first of two stops", []string{"later", "so"}, []string{"x so later"}, "x ", true},
		{"a stop that holds another", []string{"abc", "b"}, []string{"a", "b"}, "|a", true},
		{"a whole stop in one token", []string{"\n\n"}, []string{"end.\n\nMore"}, "end.", true},
		{"a character across tokens", nil, []string{"caf\xc3", "\xa9!"}, "caf|é!|", false},
		{"an emoji byte by byte", nil, []string{"\xf0", "\x9f", "\x98", "\x80"}, "|||😀|", false},
		{"no UTF-8", nil, []string{"a\xffb", "\xf0"}, "a\uFFFDb||\uFFFD", false},
		{"a lone continuation", nil, []string{"\xa9x"}, "\uFFFDx|", false},
		{"a character that begins a stop", []string{"é!"}, []string{"\xc3", "\xa9", "?"}, "||é?|", false},
	} {
		texts, stopped := stream(test.stops, test.pieces...)
		if got := strings.Join(texts, "|"); got != test.want || stopped != test.stopped {
			t.Errorf("%s: %q, stopped %v; want %q, %v", test.name, got, stopped, test.want, test.stopped)
		}
	}
}

// However the text is cut into pieces, what comes out is the same, whole
// characters, and ends before the first stop.
func FuzzTextStream(f *testing.F) {
	f.Add("The answer is 42.\n\nEND of it", "END", uint8(3))
	f.Add("naïve 😀 text", "😀", uint8(1))
	f.Add("aaaaab", "aab", uint8(2))
	f.Fuzz(func(t *testing.T, text, stop string, cut uint8) {
		if stop == "" || cut == 0 {
			return
		}
		var pieces []string
		for rest := text; rest != ""; {
			n := min(len(rest), int(cut))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		texts, stopped := stream([]string{stop}, pieces...)
		before, _, found := strings.Cut(text, stop)
		got := strings.Join(texts, "")
		if stopped != found || !utf8.ValidString(got) {
			t.Fatalf("%q until %q in pieces of %d: %q, stopped %v", text, stop, cut, got, stopped)
		}
		if utf8.ValidString(before) && got != before {
			t.Fatalf("%q until %q in pieces of %d: %q, want %q", text, stop, cut, got, before)
		}
	})
}
