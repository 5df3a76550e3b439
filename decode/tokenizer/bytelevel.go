package tokenizer

import "unicode/utf8"

// byteRunes is GPT-2's alphabet: the visible character that stands for each
// byte in a vocabulary. Printable Latin-1 stands for itself, the rest for
// U+0100 onwards in order.
var byteRunes = func() (runes [256]rune) {
	next := rune(0x100)
	for b := range runes {
		r := rune(b)
		if printable := r >= '!' && r <= '~' || r >= '¡' && r <= '¬' || r >= '®'; !printable {
			r = next
			next++
		}
		runes[b] = r
	}
	return runes
}()

// runeBytes is the inverse of byteRunes.
var runeBytes = func() map[rune]byte {
	m := make(map[rune]byte, 256)
	for b, r := range byteRunes {
		m[r] = byte(b)
	}
	return m
}()

// fromByteLevel gives the bytes that a vocabulary entry stands for; characters
// outside the alphabet stand for themselves.
func fromByteLevel(text string) []byte {
	piece := make([]byte, 0, len(text))
	for _, r := range text {
		if b, ok := runeBytes[r]; ok {
			piece = append(piece, b)
		} else {
			piece = utf8.AppendRune(piece, r)
		}
	}
	return piece
}
