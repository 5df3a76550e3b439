package answer

import (
	"slices"
	"strings"
	"unicode"
)

// minRepeated is the length, in bytes, from which a sentence said twice means
// that the reader goes round in circles; "Yes." may come again.
const minRepeated = 12

// repetition ends an answer that has begun to say its sentences again, as
// small readers do at temperature 0, where each time round makes the next more
// likely. Text that may be such a sentence is held back until it differs, so
// the second time is never shown. It is pure.
type repetition struct {
	said    []string // sentences that have ended, without the white space around them
	current string   // the sentence under way; its last held bytes are not passed on yet
	held    int
}

// push takes the next text and returns what may be shown; looped tells that a
// whole sentence was about to be said again, and nothing may follow.
func (r *repetition) push(text string) (shown string, looped bool) {
	var out strings.Builder
	for text != "" {
		n := sentenceEnd(r.current, text)
		ended := n > 0
		if !ended {
			n = len(text)
		}
		r.current += text[:n]
		r.held += n
		text = text[n:]
		sentence := strings.TrimSpace(r.current)
		if circling(r.current) {
			return out.String(), true
		}
		if ended && len(sentence) >= minRepeated && slices.Contains(r.said, sentence) {
			return out.String(), true
		}
		if ended || !r.begins(strings.TrimLeft(r.current, " \n\t")) {
			out.WriteString(r.release())
		}
		if ended {
			if len(sentence) >= minRepeated {
				r.said = append(r.said, sentence)
			}
			r.current = ""
		}
	}
	return out.String(), false
}

// circling tells whether text ends in the same phrase, four times over: it
// goes round inside one sentence. A line drawn with dashes is no phrase.
func circling(text string) bool {
	const times, shortest, longest = 4, 8, 120
	for n := shortest; n <= min(longest, len(text)/times); n++ {
		phrase := text[len(text)-n:]
		if strings.ContainsFunc(phrase, unicode.IsLetter) && strings.HasSuffix(text, strings.Repeat(phrase, times)) {
			return true
		}
	}
	return false
}

// flush returns what is held when the text has ended, unless it says a
// sentence again.
func (r *repetition) flush() string {
	if slices.Contains(r.said, strings.TrimSpace(r.current)) {
		return ""
	}
	return r.release()
}

func (r *repetition) release() string {
	text := r.current[len(r.current)-r.held:]
	r.held = 0
	return text
}

// begins tells whether text is how a sentence that was said begins.
func (r *repetition) begins(text string) bool {
	return slices.ContainsFunc(r.said, func(s string) bool {
		return strings.HasPrefix(s, strings.TrimRight(text, " \n\t"))
	})
}

// sentenceEnd returns how many bytes of text end the sentence that current
// began: up to a line break, or to white space after '.', '!' or '?'; 0 when
// it goes on.
func sentenceEnd(current, text string) int {
	var last byte
	if current != "" {
		last = current[len(current)-1]
	}
	for i := range len(text) {
		switch b := text[i]; {
		case b == '\n', b == ' ' && strings.IndexByte(".!?", last) >= 0:
			return i + 1
		default:
			last = b
		}
	}
	return 0
}
