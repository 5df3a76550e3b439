package retrieve

import (
	"strconv"
	"strings"
)

// maxMarker bounds what stands between a marker's brackets, in bytes.
const maxMarker = 32

// marker is a citation as the reader writes it: "[1]" or "[1, 2]".
type marker struct {
	text    string // with the spaces before it
	numbers []int
}

// parseMarker reads a marker, with the spaces before it, at the start of text,
// where prev is the byte before. ok is false when there is none; wait is true
// when only more text can tell (never if final). Not markers are an index
// (arr[1]), a link ([1](…)), and a number of four digits ([2024]).
func parseMarker(prev byte, text string, final bool) (m marker, ok, wait bool) {
	spaces := countBlanks(text)
	rest := text[spaces:]
	if !strings.HasPrefix(rest, "[") || spaces > maxLookahead || spaces == 0 && isWordByte(prev) {
		return m, false, false
	}
	inside := rest[1:min(len(rest), maxMarker+2)]
	end := 1 + strings.IndexByte(inside, ']') // 0: not there yet
	if end > 0 {
		inside = rest[1:end]
	}
	if len(inside) > maxMarker {
		return m, false, false
	}
	numbers, ok := parseNumbers(inside)
	switch {
	case end == 0:
		return m, false, ok && !final
	case !ok || len(numbers) == 0:
		return m, false, false
	case end+1 == len(rest) && !final:
		return m, false, true // a "(" would make it a link
	case strings.HasPrefix(rest[end+1:], "("):
		return m, false, false
	}
	return marker{text[:spaces+end+1], numbers}, true, false
}

// parseNumbers reads "1, 2", or what may become such a list; ok is false for
// what cannot. Only a list that ends in a number returns any.
func parseNumbers(list string) (numbers []int, ok bool) {
	for i := 0; i < len(list); i++ {
		if b := list[i]; !isDigit(b) && b != ' ' && b != ',' && b != ';' {
			return nil, false
		}
	}
	for part := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ';' }) {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || len(strings.TrimSpace(part)) > 3 {
			return nil, strings.TrimSpace(part) == ""
		}
		numbers = append(numbers, n)
	}
	return numbers, true
}

func isWordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '_' || isDigit(b)
}
