package retrieve

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// stopWords carry no meaning of their own. Negations are among them: what is
// compared here is what a sentence is about.
var stopWords = func() map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(`a about above after again all also am an and any are as at be because been before being below between
		both but by can cannot could did do does doing down during each either else every few for from further get had has have having he her here
		hers him his how however i if in into is it its itself just like made make may me might more most much must my neither no nor not now of
		off on once one only or other others our out over own per same she should so some such than that the their them then there therefore these
		they this those through thus to too under until up upon us use used uses using very via was we were what when where whether which while who
		whom why will with within without would yes yet you your document documents passage passages answer answers question questions according based mentioned states stated`) {
		set[word] = true
	}
	return set
}()

// terms returns the content words of a text in order, in a form in which
// their inflections are equal: words stemmed, numbers without separators of
// thousands, ideographs in pairs.
func terms(text string) []string {
	var all []string
	for text != "" {
		word := nextWord(&text)
		if t := term(word); t != "" {
			all = append(all, t)
		} else if first, _ := utf8.DecodeRuneInString(word); isIdeographic(first) {
			all = appendPairs(all, word)
		}
	}
	return all
}

// nextWord takes the next run of letters, digits or ideographs from text; it
// is empty when the run before it was something else.
func nextWord(text *string) string {
	s := *text
	first, n := utf8.DecodeRuneInString(s)
	if notWord(first) {
		*text = s[n:]
		return ""
	}
	kind := isIdeographic(first)
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		inNumber := (r == '.' || r == ',') && isDigit(s[n-1]) && n+1 < len(s) && isDigit(s[n+1])
		if !inNumber && (notWord(r) || isIdeographic(r) != kind) {
			break
		}
		n += size
	}
	*text = s[n:]
	return s[:n]
}

// term is the comparable form of a word, "" for one that does not count.
func term(word string) string {
	first, n := utf8.DecodeRuneInString(word)
	switch {
	case word == "" || isIdeographic(first):
		return ""
	case isNumber(word):
		return strings.ReplaceAll(word, ",", "")
	case n == len(word):
		return "" // a single letter, or the s of 's
	}
	word = strings.ToLower(word)
	if stopWords[word] {
		return ""
	}
	return stem(word)
}

// appendPairs appends every two neighbours of a run of ideographs.
func appendPairs(all []string, run string) []string {
	runes := []rune(run)
	if len(runes) == 1 {
		return append(all, run)
	}
	for i := range len(runes) - 1 {
		all = append(all, string(runes[i:i+2]))
	}
	return all
}

// stem takes the commonest endings off an English word. It need not find a
// word's root, only the same form for most of its inflections.
func stem(word string) string {
	cut := func(suffix string, rest int) bool {
		if len(word) < len(suffix)+rest || !strings.HasSuffix(word, suffix) {
			return false
		}
		word = word[:len(word)-len(suffix)]
		return true
	}
	switch {
	case cut("ies", 2):
		word += "y"
	case strings.HasSuffix(word, "ss"), strings.HasSuffix(word, "us"), strings.HasSuffix(word, "is"):
	default:
		cut("s", 3)
	}
	if cut("ing", 3) || cut("ed", 3) {
		if n := len(word); word[n-1] == word[n-2] && word[n-1] != 'l' && word[n-1] != 's' {
			word = word[:n-1] // running, stopped
		}
	} else {
		cut("ly", 3)
	}
	cut("e", 3)
	return word
}

func isNumber(term string) bool { return isDigit(term[0]) }

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

// isIdeographic holds for scripts that put no spaces between words.
func isIdeographic(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer)
}
