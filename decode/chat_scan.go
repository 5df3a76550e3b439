package decode

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// segment is a stretch of a template: text, or a tag without its delimiters.
type segment struct {
	kind        byte // 't' text, '{' expression, '%' statement, '#' comment
	text        string
	line        int
	left, right byte // the tag's white-space signs: '-', '+' or 0
}

// scanTemplate cuts a template into text and tags and removes the white space
// that Jinja does as HuggingFace sets it up: trim_blocks, lstrip_blocks, and
// no last newline.
func scanTemplate(source string) ([]segment, error) {
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	source = strings.TrimSuffix(source, "\n")
	var segments []segment
	line := 1
	for source != "" {
		start := tagStart(source)
		if start > 0 {
			segments = append(segments, segment{kind: 't', text: source[:start], line: line})
			line += strings.Count(source[:start], "\n")
			source = source[start:]
			continue
		}
		length := tagLength(source)
		if length < 0 {
			return nil, fmt.Errorf("line %d: a tag that begins with %q does not end", line, source[:2])
		}
		segments = append(segments, newTag(source[:length], line))
		line += strings.Count(source[:length], "\n")
		source = source[length:]
	}
	return trimText(segments), nil
}

// tagStart is where the first tag of source begins, or its length.
func tagStart(source string) int {
	for i := 0; i+1 < len(source); i++ {
		if source[i] == '{' && strings.IndexByte("{%#", source[i+1]) >= 0 {
			return i
		}
	}
	return len(source)
}

// tagLength is the length of the tag that source begins with, or -1. Quoted
// strings may contain what would end it, but not in a comment.
func tagLength(source string) int {
	closer := map[byte]string{'{': "}}", '%': "%}", '#': "#}"}[source[1]]
	if source[1] == '#' {
		if i := strings.Index(source[2:], closer); i >= 0 {
			return 2 + i + len(closer)
		}
		return -1
	}
	for i := 2; i < len(source); i++ {
		switch {
		case strings.HasPrefix(source[i:], closer):
			return i + len(closer)
		case source[i] == '\'' || source[i] == '"':
			n := quotedLength(source[i:])
			if n < 0 {
				return -1
			}
			i += n - 1
		}
	}
	return -1
}

// quotedLength is the length of the quoted string that s begins with, or -1.
func quotedLength(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case s[0]:
			return i + 1
		}
	}
	return -1
}

// newTag takes the delimiters and signs off a tag.
func newTag(tag string, line int) segment {
	s := segment{kind: tag[1], line: line}
	inside := tag[2 : len(tag)-2]
	if inside != "" && (inside[0] == '-' || inside[0] == '+') {
		s.left, inside = inside[0], inside[1:]
	}
	if n := len(inside) - 1; n >= 0 && (inside[n] == '-' || inside[n] == '+') {
		s.right, inside = inside[n], inside[:n]
	}
	s.text = strings.TrimSpace(inside)
	return s
}

// trimText applies the signs of tags, and the defaults where there are none, to
// the text beside them.
func trimText(segments []segment) []segment {
	kept := segments[:0:0]
	lineStart := true // nothing but line ends precedes the text
	for i, s := range segments {
		if s.kind != 't' {
			kept = append(kept, s)
			lineStart = false
			continue
		}
		if i > 0 {
			s.text, lineStart = trimAfter(segments[i-1], s.text)
		}
		if i+1 < len(segments) {
			s.text = trimBefore(s.text, segments[i+1], lineStart)
		}
		if s.text != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

// trimAfter trims text that follows a tag; newline tells that a line end was
// the last thing to go.
func trimAfter(tag segment, text string) (trimmed string, newline bool) {
	switch {
	case tag.right == '-':
		trimmed = strings.TrimLeft(text, " \t\n\v\f")
		gone := text[:len(text)-len(trimmed)]
		return trimmed, strings.HasSuffix(gone, "\n")
	case tag.kind != '{' && tag.right == 0:
		return strings.CutPrefix(text, "\n")
	}
	return text, false
}

// trimBefore trims text that precedes a tag.
func trimBefore(text string, tag segment, lineStart bool) string {
	switch {
	case tag.left == '-':
		return strings.TrimRight(text, " \t\n\v\f")
	case tag.kind != '{' && tag.left == 0:
		at := strings.LastIndexByte(text, '\n') + 1
		if (at > 0 || lineStart) && strings.Trim(text[at:], " \t\v\f") == "" {
			return text[:at]
		}
	}
	return text
}

// word is one token of a tag: a name, a number, a quoted string or an operator.
type word struct {
	kind byte // 'n' name, '0' number, 's' string, 'o' operator
	text string
}

var errStrayQuote = errors.New("a quoted string does not end")

// words cuts a tag's inside into tokens.
func words(inside string) ([]word, error) {
	var list []word
	for i := 0; i < len(inside); {
		start, c := i, inside[i]
		kind := byte('o')
		switch {
		case c == ' ' || c == '\t' || c == '\n':
			i++
			continue
		case c == '\'' || c == '"':
			n := quotedLength(inside[i:])
			if n < 0 {
				return nil, errStrayQuote
			}
			kind, i = 's', i+n
		case isDigit(c):
			kind, i = '0', i+strings.IndexFunc(inside[i:]+" ", func(r rune) bool { return r > 'z' || !isDigit(byte(r)) })
		case isNameByte(c):
			kind, i = 'n', i+strings.IndexFunc(inside[i:]+" ", func(r rune) bool { return r > 'z' || !isNameByte(byte(r)) })
		default:
			i++
		}
		list = append(list, word{kind, inside[start:i]})
	}
	return list, nil
}

// requote writes the quoted strings of a tag with the escapes that the jinja
// library knows; Jinja has those of Python.
func requote(inside string) (string, error) {
	list, err := words(inside)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, w := range list {
		at := strings.Index(inside, w.text)
		b.WriteString(inside[:at])
		inside = inside[at+len(w.text):]
		if w.kind == 's' && strings.Contains(w.text, `\`) {
			w.text = quote(unescape(w.text[1 : len(w.text)-1]))
		}
		b.WriteString(w.text)
	}
	return b.String(), nil
}

// quote is a string literal of the jinja library.
func quote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

// unescape resolves Python's escapes; what is none stays as it is.
func unescape(s string) string {
	var b strings.Builder
	for s != "" {
		if s[0] != '\\' || len(s) == 1 {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		switch s[1] {
		case '\n': // a line that goes on
			s = s[2:]
		case '\'', '"':
			b.WriteByte(s[1])
			s = s[2:]
		default:
			r, _, rest, err := strconv.UnquoteChar(s, 0)
			if err != nil {
				r, rest = '\\', s[1:]
			}
			b.WriteRune(r)
			s = rest
		}
	}
	return b.String()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNameByte(c byte) bool {
	return c == '_' || isDigit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
