package extract

import (
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
)

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"

	maxJSONDepth = 100
)

// looksLikeJSON tells JSON from NDJSON and from other text by reading the beginning: a value, or two of them.
func looksLikeJSON(text string) string {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" || trimmed[0] != '{' && trimmed[0] != '[' {
		return ""
	}
	if json.Valid([]byte(trimmed)) {
		return typeJSON
	}
	lines := 0
	for line := range strings.Lines(trimmed) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if !json.Valid([]byte(line)) {
			return ""
		}
		if lines++; lines == sampleRows {
			break
		}
	}
	if lines > 1 {
		return typeNDJSON
	}
	return ""
}

// jsonRecords reads JSON and NDJSON. Every scalar becomes a line "path: value"; the elements of the outermost
// array, and the lines of NDJSON, are records parted by blank lines.
func jsonRecords(text, mediaType string) (Document, error) {
	j := jsonReader{decoder: json.NewDecoder(strings.NewReader(text))}
	j.decoder.UseNumber()
	for {
		err := j.value("", 0)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Document{}, reading("JSON", err)
		}
		if err := j.write("\n"); err != nil {
			return Document{}, err
		}
	}
	return Document{Text: clean(j.out.String()), MediaType: mediaType}, nil
}

type jsonReader struct {
	decoder *json.Decoder
	out     strings.Builder
}

// value reads one value and writes its scalars under the path.
func (j *jsonReader) value(path string, depth int) error {
	token, err := j.decoder.Token()
	if err != nil {
		return err
	}
	delimiter, nested := token.(json.Delim)
	if !nested {
		return j.scalar(path, token)
	}
	if depth == maxJSONDepth {
		return overLimit("its values stand more than %d deep inside each other", maxJSONDepth)
	}
	for index := 0; j.decoder.More(); index++ {
		below := path
		if delimiter == '{' {
			key, err := j.decoder.Token()
			if err != nil {
				return unexpectedEnd(err)
			}
			below = joinPath(path, oneLine(key.(string)))
		} else if depth > 0 {
			below = path + "[" + strconv.Itoa(index) + "]"
		}
		if err := j.value(below, depth+1); err != nil {
			return unexpectedEnd(err)
		}
		if delimiter == '[' && depth == 0 {
			if err := j.write("\n"); err != nil {
				return err
			}
		}
	}
	_, err = j.decoder.Token()
	return unexpectedEnd(err)
}

func (j *jsonReader) scalar(path string, token json.Token) error {
	value := ""
	switch t := token.(type) {
	case string:
		value = t
	case json.Number:
		value = t.String()
	case bool:
		value = strconv.FormatBool(t)
	case nil:
		return nil // nothing is said
	}
	value = trimLines(value)
	if value == "" {
		return nil
	}
	if path != "" {
		value = path + ": " + value
	}
	return j.write(value + "\n")
}

// write bounds the text: paths repeat, so it can be much larger than the source.
func (j *jsonReader) write(text string) error { return appendBounded(&j.out, text) }

// joinPath is the name of a member, at most as long as a reader would follow.
func joinPath(path, key string) string {
	if path != "" {
		key = path + "." + key
	}
	return short(key, 200)
}

func unexpectedEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
