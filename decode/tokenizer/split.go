package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// splitter is a pre-tokenizer: it calls word with every word of text, in order;
// together they are the text. Words are what BPE never merges across.
type splitter func(text string, word func(string))

// splitters by the names that tokenizer.ggml.pre gives them.
var splitters = map[string]splitter{
	"gpt-2":     func(text string, word func(string)) { each(text, word, nextGPT2) },
	"llama-bpe": func(text string, word func(string)) { each(text, word, nextLlama3) },
	"smollm":    splitSmolLM,
}

// each cuts text with next, which returns the end of the word that begins at i.
func each(text string, word func(string), next func(text string, i int) int) {
	for i := 0; i < len(text); {
		end := next(text, i)
		word(text[i:end])
		i = end
	}
}

// splitSmolLM makes every numeric character a word, and splits what is between
// them as GPT-2 does, each stretch as if it were a text of its own.
func splitSmolLM(text string, word func(string)) {
	start := 0
	for i := 0; i < len(text); {
		c, size := classAt(text, i)
		if c == number {
			each(text[start:i], word, nextGPT2)
			word(text[i : i+size])
			start = i + size
		}
		i += size
	}
	each(text[start:], word, nextGPT2)
}

// nextGPT2 ends the word at i by the first alternative that matches of
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func nextGPT2(text string, i int) int {
	if n := contraction(text[i:]); n > 0 {
		return i + n
	}
	c, size := classAt(text, i)
	if c != space {
		return runOf(c, text, i)
	}
	if text[i] == ' ' && i+1 < len(text) {
		if c, _ := classAt(text, i+1); c != space {
			return runOf(c, text, i+1)
		}
	}
	return spaces(text, i, size)
}

// nextLlama3 ends the word at i by the first alternative that matches of
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
func nextLlama3(text string, i int) int {
	if n := contractionFold(text[i:]); n > 0 {
		return i + n
	}
	c, size := classAt(text, i)
	after, afterClass := i+size, none
	if after < len(text) {
		afterClass, _ = classAt(text, after)
	}
	switch {
	case c == letter:
		return runOf(letter, text, i)
	case c == number:
		for n := 1; n < 3 && afterClass == number; n++ {
			_, size = classAt(text, after)
			after += size
			if afterClass = none; after < len(text) {
				afterClass, _ = classAt(text, after)
			}
		}
		return after
	case afterClass == letter && text[i] != '\r' && text[i] != '\n':
		return runOf(letter, text, after)
	case c == other:
		return lineEnds(text, runOf(other, text, i))
	case text[i] == ' ' && afterClass == other:
		return lineEnds(text, runOf(other, text, after))
	}
	end := runOf(space, text, i)
	for j := end - 1; j >= i; j-- {
		if text[j] == '\r' || text[j] == '\n' {
			return j + 1
		}
	}
	return spaces(text, i, size)
}

// spaces ends a run of white space: before its last character if text follows,
// so that a word may begin with that one, but after at least its first, which
// takes size bytes.
func spaces(text string, i, size int) int {
	end := runOf(space, text, i)
	if end == len(text) {
		return end
	}
	_, last := utf8.DecodeLastRuneInString(text[:end])
	return max(end-last, i+size)
}

// lineEnds is where the line ends at i are over.
func lineEnds(text string, i int) int {
	for i < len(text) && (text[i] == '\r' || text[i] == '\n') {
		i++
	}
	return i
}

// contraction is the length of an English one at the start of text, or 0.
func contraction(text string) int {
	if len(text) < 2 || text[0] != '\'' {
		return 0
	}
	switch text[1] {
	case 's', 't', 'm', 'd':
		return 2
	}
	if len(text) < 3 {
		return 0
	}
	switch text[1:3] {
	case "re", "ve", "ll":
		return 3
	}
	return 0
}

// contractionFold is contraction in either case; 'ſ folds to 's.
func contractionFold(text string) int {
	const longS = "'ſ"
	if len(text) >= len(longS) && text[:len(longS)] == longS {
		return len(longS)
	}
	var lower [3]byte
	n := copy(lower[:], text)
	for i := range lower[:n] {
		if 'A' <= lower[i] && lower[i] <= 'Z' {
			lower[i] += 'a' - 'A'
		}
	}
	return contraction(string(lower[:n]))
}

// class is what the patterns tell apart.
type class uint8

const (
	none   class = iota // no character
	letter              // \p{L}
	number              // \p{N}
	space               // \s, White_Space
	other               // everything else, invalid UTF-8 included
)

// runOf is the end of the characters of class c that begin at i.
func runOf(c class, text string, i int) int {
	for i < len(text) {
		d, size := classAt(text, i)
		if d != c {
			break
		}
		i += size
	}
	return i
}

// classAt classifies the character at i. An invalid byte is a character of one.
func classAt(text string, i int) (class, int) {
	if b := text[i]; b < utf8.RuneSelf {
		return ascii[b], 1
	}
	r, size := utf8.DecodeRuneInString(text[i:])
	return classOf(r), size
}

// classOf follows the Unicode tables of Go (15.0 in Go 1.26). The reference's
// are newer: of the characters that Unicode 15 has, every one is classified
// alike; those assigned since, 5,017 letters and digits, are other here.
func classOf(r rune) class {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return other
}

var ascii = func() (table [utf8.RuneSelf]class) {
	for b := range table {
		table[b] = classOf(rune(b))
	}
	return table
}()
