package retrieve

import (
	"regexp"
	"strings"
)

// maxSentence is how long a sentence may be, in bytes; a longer one is cut.
const maxSentence = 2048

// draft is a sentence of the answer while it is being read.
type draft struct {
	words  []byte  // its text without markers
	start  int     // where it begins in the answer as shown; −1 while nothing of it is
	held   []piece // what waits: all from the first marker or the final punctuation on
	marked bool    // the reader wrote a marker
	ended  bool    // its final punctuation has been read; only markers may follow
	asks   bool    // the final punctuation has a question mark
}

// piece is a part of a sentence that waits for its end: text, or a marker.
type piece struct {
	text    string // of a marker: the blanks before it
	numbers []int  // nil for text
	final   bool   // the final punctuation
}

func newDraft() draft { return draft{start: -1} }

func (d *draft) room() int { return maxSentence - len(d.words) }

// add takes text that would be shown at the given place, and tells whether it
// may be shown at once.
func (d *draft) add(text string, at int) bool {
	content := strings.TrimLeft(text, " \t\n")
	if len(d.words) > 0 || content != "" {
		d.words = append(d.words, text...)
	}
	if len(d.held) > 0 {
		d.held = append(d.held, piece{text: text})
		return false
	}
	if d.start < 0 && content != "" {
		d.start = at + len(text) - len(content)
	}
	return true
}

// mark takes a marker of the reader's.
func (d *draft) mark(m marker) {
	d.marked = true
	d.held = append(d.held, piece{text: m.text[:strings.IndexByte(m.text, '[')], numbers: m.numbers})
}

// end takes the final punctuation.
func (d *draft) end(punctuation string) {
	d.ended, d.asks = true, strings.ContainsAny(punctuation, "?？")
	d.held = append(d.held, piece{text: punctuation, final: true})
}

// noClaim is what says nothing by itself: indices and other numbers in
// brackets, and where a link leads.
var noClaim = regexp.MustCompile(`\[[0-9 ,;]*\]?|\(?https?://[^\s)]*\)?`)

// claim is what the sentence says, without the number of a list item.
func (d *draft) claim() string {
	text := strings.TrimLeft(noClaim.ReplaceAllString(string(d.words), " "), " \t\n")
	rest := strings.TrimLeft(text, "0123456789")
	if rest != text && (strings.HasPrefix(rest, ". ") || strings.HasPrefix(rest, ") ")) {
		return rest[1:]
	}
	return text
}
