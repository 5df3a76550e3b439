package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what a document may carry besides its content.
const (
	maxNameBytes       = 1024
	maxSourceBytes     = 4096
	maxMediaTypeBytes  = 255
	maxCollectionBytes = 128
	maxMetadataBytes   = 64 << 10
	maxFiles           = 10_000 // in one submission
)

// checkCollection refuses a name that Postgres or a reader of lists could not hold.
func checkCollection(name string) error {
	return checkText("collection", name, 1, maxCollectionBytes)
}

// checkFile validates everything of a file but its format; metadata is its JSON. Names are data only:
// "../" in one is legal, because nothing is ever opened by it.
func checkFile(field string, f File, maxBytes int64) (metadata []byte, err error) {
	if err := checkText(field+".name", f.Name, 1, maxNameBytes); err != nil {
		return nil, err
	}
	if err := checkText(field+".source", f.Source, 0, maxSourceBytes); err != nil {
		return nil, err
	}
	if err := checkText(field+".media_type", f.MediaType, 0, maxMediaTypeBytes); err != nil {
		return nil, err
	}
	if n := int64(len(f.Content)); n > maxBytes {
		return nil, &InvalidError{field + ".content", fmt.Sprintf("is %d bytes long; at most %d are accepted", n, maxBytes)}
	}
	return encodeMetadata(field+".metadata", f.Metadata)
}

func checkText(field, s string, minBytes, maxBytes int) error {
	switch {
	case len(s) < minBytes:
		return &InvalidError{field, "must not be empty"}
	case len(s) > maxBytes:
		return &InvalidError{field, fmt.Sprintf("is %d bytes long; at most %d are accepted", len(s), maxBytes)}
	case !utf8.ValidString(s):
		return &InvalidError{field, "is not valid UTF-8"}
	case strings.ContainsFunc(s, unicode.IsControl):
		return &InvalidError{field, "contains a control character"}
	case minBytes > 0 && strings.TrimSpace(s) == "":
		return &InvalidError{field, "must not be blank"}
	}
	return nil
}

// encodeMetadata gives the JSON object that Postgres stores; nil becomes {}.
func encodeMetadata(field string, m map[string]any) ([]byte, error) {
	if m == nil {
		return []byte("{}"), nil
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, &InvalidError{field, "cannot be written as JSON: " + err.Error()}
	}
	if len(data) > maxMetadataBytes {
		return nil, &InvalidError{field, fmt.Sprintf("is %d bytes of JSON; at most %d are accepted", len(data), maxMetadataBytes)}
	}
	if holdsNUL(data) {
		return nil, &InvalidError{field, `contains the character \u0000, which Postgres cannot store`}
	}
	return data, nil
}

// holdsNUL reports whether marshalled JSON escapes U+0000. A backslash before the
// escape would make it the plain text \u0000, hence the parity.
func holdsNUL(data []byte) bool {
	for {
		i := bytes.Index(data, []byte(`\u0000`))
		if i < 0 {
			return false
		}
		backslashes := 0
		for i-backslashes-1 >= 0 && data[i-backslashes-1] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return true
		}
		data = data[i+1:]
	}
}

// clip cuts a text to n bytes, between characters.
func clip(s string, n int) string {
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
