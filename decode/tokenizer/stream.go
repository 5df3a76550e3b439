package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Stream joins pieces into text that is valid UTF-8 at every step: a character
// cut between two pieces is held back until it is whole, and bytes that cannot
// become one are replaced by U+FFFD. The zero value is ready.
type Stream struct{ held []byte }

// Push adds a piece and returns the text that is now certain.
func (s *Stream) Push(piece []byte) string {
	s.held = append(s.held, piece...)
	whole := len(s.held) - partial(s.held)
	text := strings.ToValidUTF8(string(s.held[:whole]), "\uFFFD")
	s.held = append(s.held[:0], s.held[whole:]...)
	return text
}

// Flush returns what was held back, U+FFFD in place of an unfinished character.
func (s *Stream) Flush() string {
	text := strings.ToValidUTF8(string(s.held), "\uFFFD")
	s.held = s.held[:0]
	return text
}

// partial is the length of an unfinished but so far valid character at the end.
func partial(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
