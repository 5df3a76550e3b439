// Package extract turns the bytes of a document into UTF-8 text. Every format is one file.
// Nothing is opened, executed or fetched: a document is only what it contains.
package extract

// Document is the text of a document.
type Document struct {
	Text      string // valid UTF-8 without NUL
	Markdown  bool   // Text is structured by Markdown; otherwise by blank lines alone
	MediaType string // what the content proved to be
}

// Extract reads a document.
func Extract(name, mediaType string, content []byte) (Document, error) {
	return Document{}, NoText(name)
}
