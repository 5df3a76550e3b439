package cache

import "bytes"

// sentenceTokens is where a sentence without an end is cut.
const sentenceTokens = 80

// Sentences appends to dst the first token of every sentence of a prompt of n
// tokens, rising from 0. A sentence ends after a token with a line break, after
// one that ends in '.', '?' or '!' before white space, and at 80 tokens.
func Sentences(dst []int32, n int, piece func(i int) []byte) []int32 {
	length := 0
	for i := range n {
		if length == 0 {
			dst = append(dst, int32(i))
		}
		length++
		if length == sentenceTokens || endsSentence(piece, i, n) {
			length = 0
		}
	}
	return dst
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
