package decode

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The private characters that a veil uses: planes 15 and 16 of Unicode.
const (
	veilFirst = 0xF0000
	veilLast  = 0x10FFFD
)

// veil replaces the characters of messages by private ones while a template
// runs, and puts them back afterwards. White space stays as it is, so that
// trimming works. What is put back is known to come from a message, wherever
// the template moved it.
type veil struct {
	hidden  []string        // by private character: what it stands for
	private map[string]rune // its inverse
}

// hide replaces every character but white space, and every invalid byte.
func (v *veil) hide(text string) (string, error) {
	if v.private == nil {
		v.private = make(map[string]rune)
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		char := text[i : i+size]
		i += size
		if unicode.IsSpace(r) {
			b.WriteString(char)
			continue
		}
		private, ok := v.private[char]
		if !ok {
			private = veilFirst + rune(len(v.hidden))
			if private > veilLast {
				return "", errors.New("the conversation has too many different characters")
			}
			v.private[char] = private
			v.hidden = append(v.hidden, char)
		}
		b.WriteRune(private)
	}
	return b.String(), nil
}

// lift puts the characters back, and returns the byte spans that they fill.
func (v *veil) lift(text string) (string, [][2]int) {
	var b strings.Builder
	var spans [][2]int
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		n := int(r) - veilFirst
		if n < 0 || n >= len(v.hidden) {
			b.WriteString(text[i : i+size])
			i += size
			continue
		}
		start := b.Len()
		b.WriteString(v.hidden[n])
		if last := len(spans) - 1; last >= 0 && spans[last][1] == start {
			spans[last][1] = b.Len()
		} else {
			spans = append(spans, [2]int{start, b.Len()})
		}
		i += size
	}
	return b.String(), spans
}
