package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

// maxDepth bounds the nesting of a body.
const maxDepth = 64

// strictJSON reads what has one meaning only: valid UTF-8, no field twice,
// nothing after the value. huma then checks fields and types.
var strictJSON = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(v)
	},
	Unmarshal: func(data []byte, v any) error {
		if !utf8.Valid(data) {
			return errors.New("must be valid UTF-8")
		}
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := single(d, "body", 0); err != nil {
			return err
		}
		if _, err := d.Token(); err != io.EOF {
			return errors.New("must be one JSON value with nothing after it")
		}
		err := json.Unmarshal(data, v)
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) { // what huma's check of types lets through: numbers out of range
			return fmt.Errorf("body.%s: must fit into %s, is a %s", kind.Field, kind.Type, kind.Value)
		}
		return err
	},
}

// single reads one value and refuses a field that comes twice; at is its
// place, as body.documents[2].name.
func single(d *json.Decoder, at string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: is nested more than %d deep", at, maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return syntax(err)
	}
	if n, ok := t.(json.Number); ok {
		if _, err := n.Float64(); err != nil {
			return fmt.Errorf("%s: is out of range", at)
		}
		return nil
	}
	switch t {
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return syntax(err)
			}
			name := key.(string) // the decoder accepts nothing else here
			place := at + "." + name
			if seen[name] {
				return fmt.Errorf("%s: is there twice", place)
			}
			seen[name] = true
			if err := single(d, place, depth+1); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for i := 0; d.More(); i++ {
			if err := single(d, at+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	if _, err := d.Token(); err != nil { // the closing delimiter
		return syntax(err)
	}
	return nil
}

func syntax(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("is JSON that ends too early")
	}
	return errors.New("is not JSON: " + strings.TrimPrefix(err.Error(), "json: "))
}
