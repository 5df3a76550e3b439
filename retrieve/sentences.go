package retrieve

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// span is a part of a text, in bytes.
type span struct{ start, end int }

// sentences returns the sentences of a passage, in order, without the spaces
// around them. Lines may be wrapped: only an empty line, or one that begins a
// list item, a heading or a table row, ends a sentence by itself.
func sentences(text string) []span {
	var all []span
	start := 0
	cut := func(end int) {
		s := span{start, end}
		s.start += len(text[start:end]) - len(strings.TrimLeftFunc(text[start:end], unicode.IsSpace))
		s.end = s.start + len(strings.TrimSpace(text[start:end]))
		if s.end > s.start {
			all = append(all, s)
		}
		start = end
	}
	for i := 0; i < len(text); {
		switch {
		case text[i] == '\n':
			i++
			if startsBlock(text[i:]) {
				cut(i)
			}
		default:
			n := endLength(text[i:], true)
			if n > 0 && !isAbbreviation(text[start:i]) {
				i += n
				cut(i)
				continue
			}
			_, n = utf8.DecodeRuneInString(text[i:])
			i += n
		}
	}
	cut(len(text))
	return all
}

// startsBlock tells whether a line begins something other than the
// continuation of the line before it.
func startsBlock(line string) bool {
	line = strings.TrimLeft(line, " \t")
	if line == "" || strings.ContainsRune("\n#|-*+>=", rune(line[0])) {
		return true
	}
	digits := len(line) - len(strings.TrimLeft(line, "0123456789"))
	return digits > 0 && digits < len(line) && (line[digits] == '.' || line[digits] == ')')
}

// maxLookahead bounds the spaces, and the closing marks, that are looked past.
const maxLookahead = 32

// endLength returns how many bytes at the start of text end a sentence: its
// final punctuation with the quotes and brackets that close after it; 0 when
// no sentence ends here, and -1 when only more text can tell (never if final).
func endLength(text string, final bool) int {
	n, wide := 0, false
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		isWide := strings.ContainsRune("。！？", r)
		if !isWide && !strings.ContainsRune(".!?…", r) || n > maxLookahead {
			break
		}
		wide = wide || isWide
		n += size
	}
	if n == 0 {
		return 0
	}
	for limit := n + maxLookahead; n < len(text) && n < limit; {
		r, size := utf8.DecodeRuneInString(text[n:])
		if !strings.ContainsRune(`"')]}”’»*_」』）`, r) {
			break
		}
		n += size
	}
	if !final && !utf8.FullRuneInString(text[n:]) {
		return -1
	}
	if wide || n == len(text) {
		return n
	}
	return afterEnd(text, n, final)
}

// afterEnd looks at what follows the n bytes that may end a sentence: a space
// must, and no small letter may ("e.g. this", "etc. and").
func afterEnd(text string, n int, final bool) int {
	rest := strings.TrimLeft(text[n:min(len(text), n+maxLookahead+utf8.UTFMax)], " \t\n\r")
	spaces := min(len(text)-n, maxLookahead+utf8.UTFMax) - len(rest)
	switch r, _ := utf8.DecodeRuneInString(rest); {
	case spaces == 0 && rest[0] == '[': // a marker may stand behind
		return n
	case spaces == 0:
		return 0
	case spaces > maxLookahead || strings.Count(text[n:n+spaces], "\n") > 1:
		return n
	case !final && !utf8.FullRuneInString(rest):
		return -1
	case rest != "" && unicode.IsLower(r):
		return 0
	}
	return n
}

// abbreviations that stand before a name or a number.
var abbreviations = map[string]bool{
	"e.g": true, "i.e": true, "cf": true, "vs": true, "dr": true, "mr": true, "mrs": true, "ms": true, "prof": true,
	"fig": true, "figs": true, "st": true, "approx": true, "al": true, "eq": true, "sec": true, "vol": true, "pp": true,
}

// isAbbreviation tells whether the full stop after text ends a word, a single
// letter or the number of a list item, and not a sentence.
func isAbbreviation(text string) bool {
	text = strings.TrimLeft(text, " \t\n\r")
	if strings.TrimLeft(text, "0123456789") == "" {
		return true
	}
	word := text[strings.LastIndexAny(text, " \t\n\r([\"'*_")+1:]
	if len(word) == 1 && word[0] >= 'A' && word[0] <= 'Z' && word != "I" {
		return true
	}
	return abbreviations[strings.ToLower(word)]
}
