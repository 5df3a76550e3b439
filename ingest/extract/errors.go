package extract

// NoTextError says that a document has a known format and nothing to read in it.
type NoTextError struct{ Name string }

func (e *NoTextError) Error() string { return "no text found in " + e.Name }

// NoText is the error of a document without text.
func NoText(name string) error { return &NoTextError{name} }

// UnsupportedError says that no extractor reads the content.
type UnsupportedError struct{ MediaType string }

func (e *UnsupportedError) Error() string {
	return "unsupported media type " + e.MediaType + ": Markdown, HTML and plain text are read"
}
