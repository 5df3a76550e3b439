// Package extract turns the bytes of a document into UTF-8 text. Every format is one file.
// Nothing is opened, executed or fetched: a document is only what it contains, and what it unpacks to is bounded.
package extract

import (
	"bytes"
	"context"
	"strings"
	"unicode"
)

// Document is the text of a document and its structure.
type Document struct {
	Text      string // valid UTF-8 without control characters but newline and tab
	Markdown  bool   // Text is structured by Markdown; otherwise by blank lines and Outline
	MediaType string // what the content proved to be
	Language  string // of source code, such as "go"; "" for everything else

	Outline []Heading // of a text that is not Markdown: its headings, in order
	Pages   []int     // where each page begins, in bytes of Text; nil for formats without pages
	Boxes   []Box     // where lines stand on their pages, in the order of Text; nil for most formats
}

// Heading is a heading of a text that has no marks for it: Text[Start:End].
type Heading struct {
	Start, End int
	Level      int // 1…6
	Title      string
}

// Box is where Text[Start:End] stands on a page, in points from the page's lower left corner.
type Box struct {
	Start, End               int
	Page                     int // 1-based
	Left, Bottom, Right, Top float32
}

// Extract reads a document. What the sender claims, a name and a media type, is a hint: the content decides.
// Errors: *UnsupportedError for a format that is not read here, *NoTextError for content without a letter or
// digit, *LimitError for bombs and the like, *EncryptedError, and what a parser says of damaged content.
func Extract(ctx context.Context, name, mediaType string, content []byte) (Document, error) {
	return extractNested(ctx, name, mediaType, content, 0)
}

// extractNested is Extract for a document that stands inside nesting others.
func extractNested(ctx context.Context, name, mediaType string, content []byte, nesting int) (Document, error) {
	if len(content) == 0 {
		return Document{}, NoText(name)
	}
	document, err := dispatch(ctx, name, mediaType, content, nesting)
	switch {
	case err != nil:
		return Document{}, err
	case ctx.Err() != nil:
		return Document{}, ctx.Err()
	case len(document.Text) > maxTextBytes:
		return Document{}, overLimit("it holds more than %d MiB of text", maxTextBytes>>20)
	case !strings.ContainsFunc(document.Text, readable):
		return Document{}, NoText(name)
	}
	return document, nil
}

func dispatch(ctx context.Context, name, mediaType string, content []byte, nesting int) (Document, error) {
	kind := signature(content)
	switch {
	case kind == "":
		return text(ctx, name, mediaType, content, nesting)
	case kind == typePDF:
		return pdf(ctx, name, content)
	case kind == typeGzip || kind == typeZstd:
		if nesting == maxNesting {
			return Document{}, overLimit("documents stand more than %d deep inside each other", maxNesting)
		}
		inner, innerName, err := decompress(kind, name, content)
		if err != nil {
			return Document{}, err
		}
		return extractNested(ctx, innerName, "", inner, nesting+1)
	case kind == typeOldOffice:
		return Document{}, oldOffice(content)
	case kind == typeDOCX || kind == typePPTX || kind == typeXLSX || kind == typeEPUB || strings.HasPrefix(kind, typeODF):
		return office(ctx, kind, content)
	}
	return Document{}, &UnsupportedError{kind}
}

// office reads the documents that are zips of XML.
func office(ctx context.Context, kind string, content []byte) (Document, error) {
	p, err := openParts(content)
	if err != nil {
		return Document{}, err
	}
	switch kind {
	case typeDOCX:
		return docx(p)
	case typePPTX:
		return pptx(p)
	case typeXLSX:
		return xlsx(ctx, content, p)
	case typeEPUB:
		return epub(p)
	}
	return odf(p, kind)
}

// text reads the formats that are text.
func text(ctx context.Context, name, mediaType string, content []byte, nesting int) (Document, error) {
	switch mailType(content) {
	case typeMail:
		return mailMessage(ctx, content, nesting)
	case typeMbox:
		return mailbox(ctx, content, nesting)
	}
	decoded := decode(content, mediaType)
	if binary(decoded) {
		return Document{}, &UnsupportedError{typeBinary}
	}
	decoded = clean(decoded)
	switch kind := detect(name, mediaType, decoded); kind {
	case typeMarkdown:
		return markdown(decoded)
	case typeHTML:
		return html(decoded)
	case typeJSON, typeNDJSON:
		return jsonRecords(decoded, kind)
	case typeCSV:
		return csvTable(decoded, csvDelimiter(decoded, true))
	case typeCode:
		return sourceCode(decoded, codeLanguage(name, decoded))
	}
	return plain(decoded)
}

// oldOffice tells an encrypted document of today from the binary formats before 2007.
func oldOffice(content []byte) error {
	encrypted := []byte("E\x00n\x00c\x00r\x00y\x00p\x00t\x00e\x00d\x00P\x00a\x00c\x00k\x00a\x00g\x00e\x00")
	if bytes.Contains(content, encrypted) {
		return &EncryptedError{"Office document"}
	}
	return &UnsupportedError{typeOldOffice + " (an Office format before 2007: save it as DOCX, XLSX or PPTX)"}
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
