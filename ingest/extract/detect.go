package extract

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strings"
)

// The media types of text.
const (
	typeMarkdown = "text/markdown"
	typeHTML     = "text/html"
	typeText     = "text/plain"

	typeBinary    = "application/octet-stream"
	typeOldOffice = "application/x-ole-storage" // Word, Excel and PowerPoint before 2007, and encrypted ones of today
)

// signature returns the media type of content that begins like a known format that is not text, "" for the
// rest. http.DetectContentType knows the signatures of https://mimesniff.spec.whatwg.org.
func signature(content []byte) string {
	switch {
	case bytes.HasPrefix(content, []byte("%PDF-")):
		return typePDF
	case bytes.HasPrefix(content, []byte("PK\x03\x04")), bytes.HasPrefix(content, endOfDirectory):
		return zipKind(content)
	case bytes.HasPrefix(content, []byte("\x1f\x8b\x08")):
		return typeGzip
	case bytes.HasPrefix(content, []byte("\x28\xb5\x2f\xfd")):
		return typeZstd
	case bytes.HasPrefix(content, []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")):
		return typeOldOffice
	case isTar(content):
		return typeTar
	case bytes.HasPrefix(content, []byte(`{\rtf`)):
		return "application/rtf"
	case bytes.HasPrefix(content, []byte("\x7fELF")):
		return "application/x-executable"
	}
	kind, _, _ := strings.Cut(http.DetectContentType(content), ";")
	if strings.HasPrefix(kind, "text/") || kind == typeBinary {
		return ""
	}
	return kind
}

// isTar looks for the magic of POSIX and GNU archives.
func isTar(content []byte) bool {
	return len(content) >= 512 && bytes.Equal(content[257:262], []byte("ustar"))
}

// zipKind tells the documents that are zips by what is in them.
func zipKind(content []byte) string {
	r, err := openZip(content)
	if err != nil {
		return typeZip
	}
	for _, f := range r.File {
		switch f.Name {
		case "mimetype":
			if kind := declaredKind(f.Open); kind != "" {
				return kind
			}
		case "word/document.xml":
			return typeDOCX
		case "ppt/presentation.xml":
			return typePPTX
		case "xl/workbook.xml":
			return typeXLSX
		case "META-INF/container.xml":
			return typeEPUB
		}
	}
	return typeZip
}

// declaredKind reads the part in which EPUB and OpenDocument say what they are.
func declaredKind(open func() (io.ReadCloser, error)) string {
	r, err := open()
	if err != nil {
		return ""
	}
	defer r.Close()
	text, _ := io.ReadAll(io.LimitReader(r, 100))
	kind := strings.TrimSpace(string(text))
	if kind == typeEPUB || strings.HasPrefix(kind, typeODF) {
		return kind
	}
	return ""
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

// detect chooses one of the types of text. Markdown, tables and source code cannot be told from other text by
// looking, so they go by what the sender says; what can be told is asked first, but for Markdown, which
// may begin with HTML.
func detect(name, mediaType, text string) string {
	claimed, _, _ := mime.ParseMediaType(mediaType)
	extension := strings.ToLower(path.Ext(name))
	switch {
	case claimed == typeMarkdown || claimed == "text/x-markdown":
		return typeMarkdown
	case claimed != typeHTML && (extension == ".md" || extension == ".markdown" || extension == ".mdown"):
		return typeMarkdown
	}
	if kind := looksLikeJSON(text); kind != "" {
		return kind
	}
	begin := text[:min(len(text), 4096)]
	switch {
	case strings.HasPrefix(http.DetectContentType([]byte(begin)), typeHTML):
		return typeHTML
	case strings.HasPrefix(begin, "<?xml") && strings.Contains(begin, "<html"):
		return typeHTML
	case (claimed == typeHTML || claimed == "application/xhtml+xml" || extension == ".html" || extension == ".htm" || extension == ".xhtml") && anyTag.MatchString(text):
		return typeHTML
	case codeLanguage(name, text) != "":
		return typeCode
	case csvDelimiter(text, claimed == typeCSV || claimed == "text/tab-separated-values" || extension == ".csv" || extension == ".tsv") != 0:
		return typeCSV
	}
	return typeText
}

// Readable guesses from the beginning of a file whether it is a document or an archive of them, so that walks of
// directories can pass over pictures and programs without a failure for each.
func Readable(head []byte) bool {
	switch kind := signature(head); {
	case kind == "":
		return !binary(decode(head, ""))
	case kind == typePDF || kind == typeGzip || kind == typeZstd || kind == typeTar || kind == typeOldOffice:
		return true
	default:
		return bytes.HasPrefix(head, []byte("PK"))
	}
}
