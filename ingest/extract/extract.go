// Package extract turns the bytes of a document into UTF-8 text. Every format is one file.
// Nothing is opened, executed or fetched: a document is only what it contains.
package extract

import (
	"strings"
	"unicode"
)

// Document is the text of a document.
type Document struct {
	Text      string // valid UTF-8 without control characters but newline and tab
	Markdown  bool   // Text is structured by Markdown; otherwise by blank lines alone
	MediaType string // what the content proved to be
}

// extractor reads one format from decoded text.
type extractor func(text string) (Document, error)

// extractors by the media type that detect answers.
var extractors = map[string]extractor{
	typeMarkdown: markdown,
	typeHTML:     html,
	typeText:     plain,
}

// Extract reads a document. What the sender claims, a name and a media type, is a hint: the content decides.
// Content of a format that is not read here is an *UnsupportedError, content without a letter or
// digit a *NoTextError.
func Extract(name, mediaType string, content []byte) (Document, error) {
	if len(content) == 0 {
		return Document{}, NoText(name)
	}
	if kind := signature(content); kind != "" {
		return Document{}, &UnsupportedError{kind}
	}
	text := decode(content, mediaType)
	if binary(text) {
		return Document{}, &UnsupportedError{"application/octet-stream"}
	}
	document, err := extractors[detect(name, mediaType, text)](clean(text))
	if err != nil {
		return Document{}, err
	}
	if !strings.ContainsFunc(document.Text, readable) {
		return Document{}, NoText(name)
	}
	return document, nil
}

func readable(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// clean gives lines one ending and drops the characters that no reader sees and Postgres may not store.
func clean(text string) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r' || r == '\f' || r == '\v' || r == '\u2028' || r == '\u2029' || r == '\u0085':
			return '\n'
		case r < ' ' || r == 0x7f || r == '\uFEFF':
			return -1
		}
		return r
	}, text)
}
