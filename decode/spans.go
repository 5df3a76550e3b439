package decode

import "bytes"

// Spans finds texts, which follow one another, in what tokens spell: for each, the
// first and the last but one of the tokens that lie wholly inside it. A text that is
// not found, or holds no whole token, has an empty span.
func Spans(piece func(token int32) []byte, tokens []int32, texts []string) [][2]int {
	var spelled []byte
	ends := make([]int, len(tokens)) // of every token, in bytes
	for i, token := range tokens {
		spelled = append(spelled, piece(token)...)
		ends[i] = len(spelled)
	}
	spans := make([][2]int, len(texts))
	at, from := 0, 0 // token, byte
	for i, text := range texts {
		found := bytes.Index(spelled[from:], []byte(text))
		if found < 0 || text == "" {
			continue
		}
		first := from + found
		from = first + len(text)
		for at < len(tokens) && start(ends, at) < first {
			at++
		}
		spans[i][0] = at
		for at < len(tokens) && ends[at] <= from {
			at++
		}
		end := at
		for end > spans[i][0] && len(piece(tokens[end-1])) == 0 {
			end-- // what spells nothing behind the text is not part of it
		}
		spans[i][1] = end
	}
	return spans
}

// start is the first byte of token i.
func start(ends []int, i int) int {
	if i == 0 {
		return 0
	}
	return ends[i-1]
}
