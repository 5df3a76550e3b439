package extract

import (
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
)

// The media types that are read.
const (
	typeMarkdown = "text/markdown"
	typeHTML     = "text/html"
	typeText     = "text/plain"
)

// signature returns the media type of content that begins like a known format that is not text, "" for
// the rest. http.DetectContentType knows the signatures of https://mimesniff.spec.whatwg.org.
func signature(content []byte) string {
	kind, _, _ := strings.Cut(http.DetectContentType(content), ";")
	if strings.HasPrefix(kind, "text/") || kind == "application/octet-stream" {
		return ""
	}
	return kind
}

// maxControl is the share of control characters above which decoded content is no text:
// a stray NUL is damage, many are another format.
const maxControl = 0.01

// binary looks at the beginning of decoded content.
func binary(text string) bool {
	head := text[:min(len(text), 64<<10)]
	control := 0
	for i := range len(head) {
		if c := head[i]; c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != 0x1b {
			control++
		}
	}
	return float64(control) > maxControl*float64(len(head))
}

var anyTag = regexp.MustCompile(`<[a-zA-Z!/][^<>]*>`)

// detect chooses one of the types that are read. Markdown cannot be told from plain text by looking,
// so it goes by what the sender says; it may begin with HTML, so that is asked first.
func detect(name, mediaType, text string) string {
	claimed, _, _ := mime.ParseMediaType(mediaType)
	extension := strings.ToLower(path.Ext(name))
	switch {
	case claimed == typeMarkdown || claimed == "text/x-markdown":
		return typeMarkdown
	case claimed != typeHTML && (extension == ".md" || extension == ".markdown" || extension == ".mdown"):
		return typeMarkdown
	}
	begin := text[:min(len(text), 4096)]
	switch {
	case strings.HasPrefix(http.DetectContentType([]byte(begin)), typeHTML):
		return typeHTML
	case strings.HasPrefix(begin, "<?xml") && strings.Contains(begin, "<html"):
		return typeHTML
	case (claimed == typeHTML || claimed == "application/xhtml+xml" || extension == ".html" || extension == ".htm" || extension == ".xhtml") && anyTag.MatchString(text):
		return typeHTML
	}
	return typeText
}
