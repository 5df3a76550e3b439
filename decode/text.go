package decode

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// textStream turns the bytes of tokens into text: whole characters only, bytes
// that are no UTF-8 replaced by U+FFFD, and nothing that may still turn out to
// be the beginning of a stop string.
type textStream struct {
	stops   [][]byte
	pending []byte
}

func newTextStream(stops []string) textStream {
	var t textStream
	for _, stop := range stops {
		t.stops = append(t.stops, []byte(stop))
	}
	return t
}

// push adds a token's bytes and returns the text that is certain by now. stopped
// tells that a stop string was met: it and what follows it are dropped.
func (t *textStream) push(piece []byte) (text string, stopped bool) {
	t.pending = append(t.pending, piece...)
	end := -1
	for _, stop := range t.stops {
		if i := bytes.Index(t.pending, stop); i >= 0 && (end < 0 || i < end) {
			end = i
		}
	}
	if end >= 0 {
		t.pending = t.pending[:end]
		return t.flush(), true
	}
	certain := len(t.pending) - t.heldStop()
	return t.take(certain - incomplete(t.pending[:certain])), false
}

// flush returns what was held back, at the end of an answer.
func (t *textStream) flush() string { return t.take(len(t.pending)) }

func (t *textStream) take(n int) string {
	text := strings.ToValidUTF8(string(t.pending[:n]), "\uFFFD")
	t.pending = append(t.pending[:0], t.pending[n:]...)
	return text
}

// heldStop is the length of the longest end of pending that begins a stop string.
func (t *textStream) heldStop() int {
	held := 0
	for _, stop := range t.stops {
		for n := min(len(stop)-1, len(t.pending)); n > held; n-- {
			if bytes.HasSuffix(t.pending, stop[:n]) {
				held = n
			}
		}
	}
	return held
}

// incomplete is the length of a character at the end of b that lacks bytes.
func incomplete(b []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(b)); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
