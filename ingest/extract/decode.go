package extract

import (
	"bytes"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html/charset"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// decode turns content of any encoding into valid UTF-8. In this order it believes a byte order mark,
// bytes that are UTF-8 beyond ASCII, the charset of the media type or of the page's own meta element,
// bytes that are UTF-8 but for some damage; what is left is Windows-1252, which contains Latin-1.
func decode(content []byte, mediaType string) string {
	if e := byteOrderMark(content); e != nil {
		return convert(content, e)
	}
	declared := declaredEncoding(content, mediaType)
	valid, damaged, ascii := census(content)
	switch {
	case damaged == 0 && !ascii:
		return string(content)
	case declared != nil:
		return convert(content, declared)
	case damaged == 0:
		return string(content)
	case valid > 4*damaged:
		return strings.ToValidUTF8(string(content), "\uFFFD")
	}
	return convert(content, charmap.Windows1252)
}

func byteOrderMark(content []byte) encoding.Encoding {
	switch {
	case bytes.HasPrefix(content, []byte{0xEF, 0xBB, 0xBF}):
		return unicode.UTF8BOM
	case bytes.HasPrefix(content, []byte{0xFF, 0xFE}):
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM)
	case bytes.HasPrefix(content, []byte{0xFE, 0xFF}):
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	}
	return nil
}

// declaredEncoding is what the media type, or a page's meta element, says; nil if neither does.
func declaredEncoding(content []byte, mediaType string) encoding.Encoding {
	_, parameters, _ := mime.ParseMediaType(mediaType)
	if e, name := charset.Lookup(parameters["charset"]); e != nil && name != "utf-8" {
		return e
	}
	begin := content[:min(len(content), 1024)]
	if !bytes.Contains(bytes.ToLower(begin), []byte("<meta")) {
		return nil
	}
	e, name, _ := charset.DetermineEncoding(begin, "")
	if name == "utf-8" {
		return nil
	}
	return e
}

// census counts characters beyond ASCII that are encoded as UTF-8, and bytes that are not.
func census(content []byte) (valid, damaged int, ascii bool) {
	for i := 0; i < len(content); {
		if content[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, size := utf8.DecodeRune(content[i:])
		if r == utf8.RuneError && size == 1 {
			damaged++
		} else {
			valid++
		}
		i += size
	}
	return valid, damaged, valid+damaged == 0
}

func convert(content []byte, e encoding.Encoding) string {
	text, err := e.NewDecoder().Bytes(content)
	if err != nil {
		text = content
	}
	return strings.ToValidUTF8(string(text), "\uFFFD")
}
