package extract

import "fmt"

// NoTextError says that a document has a known format and nothing to read in it.
type NoTextError struct {
	Name string
	Why  string // what is known about the cause, such as "no text layer"; "" when nothing is
}

func (e *NoTextError) Error() string {
	if e.Why != "" {
		return "no text found in " + e.Name + ": " + e.Why
	}
	return "no text found in " + e.Name
}

// NoText is the error of a document without text.
func NoText(name string) error { return &NoTextError{Name: name} }

// UnsupportedError says that no extractor reads the content.
type UnsupportedError struct{ MediaType string }

func (e *UnsupportedError) Error() string {
	return "unsupported media type " + e.MediaType + ": text, Markdown, HTML, PDF, DOCX, PPTX, XLSX, ODT, EPUB, CSV, JSON, mail and source code are read, and archives of these"
}

// LimitError says that content would become larger, deeper or slower to read than is allowed.
type LimitError struct{ Reason string }

func (e *LimitError) Error() string { return "refused: " + e.Reason }

func overLimit(format string, args ...any) error { return &LimitError{fmt.Sprintf(format, args...)} }

// EncryptedError says that a document is there and cannot be read without its password.
type EncryptedError struct{ MediaType string }

func (e *EncryptedError) Error() string {
	return "encrypted " + e.MediaType + ": remove the password and hand it in again"
}
