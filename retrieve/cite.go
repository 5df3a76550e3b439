package retrieve

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The origins of a citation.
const (
	FromModel = "model"     // the reader wrote the marker, and the passage backs the sentence
	Matched   = "matched"   // the passage was found by the words of the sentence
	Extracted = "extracted" // no passage backs the answer; the quote fits the question best
)

// Citation ties a sentence of the answer to a passage.
type Citation struct {
	Marker     int    `json:"marker"` // the passage's place in the prompt, from 1
	PassageID  int64  `json:"passage_id"`
	Start      int    `json:"start"` // the cited sentence: byte offsets in the answer as shown
	End        int    `json:"end"`
	QuoteStart int    `json:"quote_start"` // what backs it best: byte offsets in the document's text
	QuoteEnd   int    `json:"quote_end"`
	Quote      string `json:"quote"`  // its text
	Origin     string `json:"origin"` // FromModel, Matched or Extracted
}

// Citer checks the citations of an answer while it streams. What Push and
// Flush return, joined, is the answer to show; it is the same however the
// text was cut into pushes.
//
// Every sentence is compared with the passages when it ends. A marker that
// the reader wrote stays where it is if that passage backs the sentence; if
// not, it gives way to the passage that does, or goes. A sentence without a
// marker gets one, before its final punctuation, if a passage clearly backs
// it. So every marker shown has been checked against the text of its passage,
// though by words alone: a sentence that turns the meaning round with the
// same words is not found out. Code, links and indices such as arr[1] are
// left alone; headings, tables, questions and lines that end in a colon are
// given no markers. Nothing but markers is ever added or taken away.
//
// Text is held back only from a possible marker or end of a sentence to the
// byte that decides, and from a marker to the end of its sentence.
// A Citer serves one answer and one goroutine.
type Citer struct {
	evidence *evidence
	in       string // not yet taken
	prev     byte   // the last byte taken
	shown    strings.Builder
	out      int // bytes shown by earlier calls
	cites    []Citation

	newLine bool   // nothing but spaces since the line began
	lead    byte   // the first byte of the line
	fence   string // what opened the code block that we are in
	code    int    // backticks that opened the code span that we are in
	draft   draft  // the sentence so far
}

// NewCiter returns a Citer for an answer read from passages, numbered from 1
// as Prompt numbers them.
func NewCiter(passages []Passage) *Citer {
	return &Citer{evidence: newEvidence(passages), newLine: true, draft: newDraft()}
}

// Push takes the next piece of the reader's text and returns what can be
// shown by now, with the citations that have been settled. All of their
// offsets lie in what has been returned so far.
func (c *Citer) Push(text string) (string, []Citation) { return c.take(text, false) }

// Flush ends the answer and returns what was held back.
func (c *Citer) Flush() (string, []Citation) { return c.take("", true) }

func (c *Citer) take(text string, final bool) (string, []Citation) {
	c.in += text
	for c.in != "" && c.step(final) {
	}
	if final {
		c.settle()
	}
	shown, cites := c.shown.String(), c.cites
	c.out += len(shown)
	c.shown.Reset()
	c.cites = nil
	return shown, cites
}

// step takes the next element of the text; false means that only more text
// can tell what it is.
func (c *Citer) step(final bool) bool {
	if c.fence != "" {
		return c.stepFence(final)
	}
	if c.newLine {
		if n, wait := fenceLength(c.in, final); n > 0 || wait {
			return !wait && c.openFence(n)
		}
	}
	blanks := countBlanks(c.in)
	rest := c.in[blanks:]
	switch {
	case rest == "" && blanks <= maxLookahead && !final:
		return false
	case rest == "" && final:
		c.settle()
		c.plain(blanks)
		return true
	case strings.HasPrefix(rest, "\n"):
		return c.stepLine(blanks, final)
	case blanks == 0 && rest[0] == '`':
		return c.stepBackticks(final)
	case c.code == 0 && strings.HasPrefix(rest, "["):
		m, ok, wait := parseMarker(c.prev, c.in, final)
		if ok {
			c.draft.mark(m)
			c.consume(len(m.text))
		}
		if ok || wait {
			return ok
		}
	case c.code == 0 && blanks == 0 && !c.draft.ended:
		n := endLength(c.in, final)
		if n > 0 && !isAbbreviation(string(c.draft.words)) {
			c.draft.end(c.in[:n])
			c.consume(n)
			return true
		}
		if n < 0 {
			return false
		}
	}
	if !final && !utf8.FullRuneInString(c.in) {
		return false
	}
	if blanks > 0 {
		c.plain(blanks)
		return true
	}
	_, n := utf8.DecodeRuneInString(c.in)
	for n < len(c.in) && isWordByte(c.in[n]) {
		n++
	}
	c.plain(n)
	return true
}

// stepLine takes the end of a line and the blanks before it. A sentence ends
// there too, unless the next line goes on with a small letter.
func (c *Citer) stepLine(blanks int, final bool) bool {
	next := c.in[blanks+1:]
	next = next[countBlanks(next):]
	if !final && !utf8.FullRuneInString(next) && len(c.in)-blanks <= maxLookahead {
		return false
	}
	r, _ := utf8.DecodeRuneInString(next)
	c.code = 0
	if !unicode.IsLower(r) || c.lead == '#' || c.lead == '|' {
		c.settle()
	}
	c.plain(blanks + 1)
	c.newLine, c.lead = true, 0
	return true
}

// stepBackticks takes a run of backticks, which opens or closes a code span.
func (c *Citer) stepBackticks(final bool) bool {
	n := len(c.in) - len(strings.TrimLeft(c.in, "`"))
	if n == len(c.in) && !final {
		return false
	}
	c.plain(n)
	switch c.code {
	case 0:
		c.code = n
	case n:
		c.code = 0
	}
	return true
}

// plain takes n bytes of text into the sentence, and shows them unless
// something before them waits.
func (c *Citer) plain(n int) {
	if c.draft.ended {
		c.settle()
	}
	for s := c.in[:n]; s != ""; {
		if c.draft.room() == 0 {
			c.settle()
		}
		part := s[:min(len(s), c.draft.room())]
		s = s[len(part):]
		if c.draft.add(part, c.at()) {
			c.shown.WriteString(part)
		}
	}
	if first := strings.TrimLeft(c.in[:n], " \t\n"); c.newLine && first != "" {
		c.newLine, c.lead = false, first[0]
	}
	c.consume(n)
}

func (c *Citer) consume(n int) {
	c.prev = c.in[n-1]
	c.in = c.in[n:]
	c.newLine = c.newLine && isBlank(c.prev)
}

// at is the place in the answer of the next byte to be shown.
func (c *Citer) at() int { return c.out + c.shown.Len() }

func isBlank(b byte) bool { return b == ' ' || b == '\t' }

// countBlanks counts the blanks that text begins with, up to one more than
// are looked past.
func countBlanks(text string) (n int) {
	for n < len(text) && n <= maxLookahead && isBlank(text[n]) {
		n++
	}
	return n
}
