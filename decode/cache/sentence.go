package cache

import "bytes"

// sentenceTokens is where a sentence without an end is cut.
const sentenceTokens = 80

// Sentences tells, for each of n tokens, whether a sentence ends with it: after a
// token with a line break, after one that ends in '.', '?' or '!' before white
// space, and at 80 tokens. See Staged.
func Sentences(n int, piece func(i int) []byte) []bool {
	ends := make([]bool, n)
	length := 0
	for i := range ends {
		length++
		ends[i] = length == sentenceTokens || endsSentence(piece, i, n)
		if ends[i] {
			length = 0
		}
	}
	return ends
}

func endsSentence(piece func(i int) []byte, i, n int) bool {
	text := piece(i)
	if bytes.IndexByte(text, '\n') >= 0 {
		return true
	}
	text = bytes.TrimRight(text, " \t")
	if len(text) == 0 || bytes.IndexByte([]byte(".?!"), text[len(text)-1]) < 0 || i+1 >= n {
		return false
	}
	next := piece(i + 1)
	return len(next) > 0 && (next[0] == ' ' || next[0] == '\n')
}
