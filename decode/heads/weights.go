// Package heads says how much each KV head of a model finds answers, for the cache
// vote. It is measured once for a model; what was measured of the default reader
// comes with the program.
package heads

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
)

// Weights of a model's KV heads, and how they were measured.
type Weights struct {
	Model     string      `json:"model"` // SHA-256 of the model's file, in hex
	Name      string      `json:"name"`
	Prompts   int         `json:"prompts"`
	Lengths   []int       `json:"lengths"` // of the prompts, in tokens
	Seed      uint64      `json:"seed"`
	Documents []string    `json:"documents"`
	Weights   [][]float32 `json:"weights"` // [layers][kvHeads] w_h, the sum of the two terms below over their maxima
	Sentence  [][]float32 `json:"sentence"`
	Answer    [][]float32 `json:"answer"`
}

// Extension of the file beside a model's, in place of .gguf.
const Extension = ".heads.json"

// ErrMalformed is wrapped where a file is not what Write writes.
var ErrMalformed = errors.New("malformed head weights")

// maxFile bounds what is read of a file.
const maxFile = 16 << 20

//go:embed *.json
var known embed.FS

// Weigh joins what was measured, [layers·kvHeads] means each, to weights: the sum
// of both, each divided by the highest of any head.
func Weigh(kvHeads int, sentence, answer []float64) Weights {
	w := Weights{Sentence: table(sentence, kvHeads), Answer: table(answer, kvHeads)}
	sum := make([]float64, len(sentence))
	for _, term := range [][]float64{sentence, answer} {
		highest := 0.0
		for _, x := range term {
			highest = max(highest, x)
		}
		for i, x := range term {
			if highest > 0 {
				sum[i] += max(0, x) / highest
			}
		}
	}
	w.Weights = table(sum, kvHeads)
	return w
}

// table cuts values into layers, rounded to what is worth writing down.
func table(values []float64, kvHeads int) [][]float32 {
	var rows [][]float32
	for len(values) >= kvHeads {
		row := make([]float32, kvHeads)
		for i := range row {
			row[i] = float32(math.Round(values[i]*1e5) / 1e5)
		}
		rows, values = append(rows, row), values[kvHeads:]
	}
	return rows
}

// Flat is the weights as [layers·kvHeads], or an error wrapping ErrMalformed where
// they do not fit the model.
func (w Weights) Flat(layers, kvHeads int) ([]float32, error) {
	if len(w.Weights) != layers {
		return nil, fmt.Errorf("%w: of %d layers, the model has %d", ErrMalformed, len(w.Weights), layers)
	}
	var flat []float32
	for i, row := range w.Weights {
		if len(row) != kvHeads {
			return nil, fmt.Errorf("%w: layer %d has %d KV heads, the model %d", ErrMalformed, i, len(row), kvHeads)
		}
		for _, x := range row {
			if !(x >= 0) {
				return nil, fmt.Errorf("%w: layer %d has a weight of %v", ErrMalformed, i, x)
			}
		}
		flat = append(flat, row...)
	}
	return flat, nil
}

// Parse reads what Write wrote.
func Parse(content []byte) (Weights, error) {
	var w Weights
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return Weights{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(w.Model) != 64 || len(w.Weights) == 0 {
		return Weights{}, fmt.Errorf("%w: no model or no weights", ErrMalformed)
	}
	return w, nil
}

// Read reads a file.
func Read(path string) (Weights, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Weights{}, err
	}
	if info.Size() > maxFile {
		return Weights{}, fmt.Errorf("%s: %w: %d bytes", path, ErrMalformed, info.Size())
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return Weights{}, err
	}
	w, err := Parse(content)
	if err != nil {
		return Weights{}, fmt.Errorf("%s: %w", path, err)
	}
	return w, nil
}

// Write writes a file, a layer to a line.
func (w Weights) Write(path string) error {
	content, err := json.MarshalIndent(w, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(lines(content), '\n'), 0o644)
}

// lines joins the numbers of a layer.
func lines(content []byte) []byte {
	text := string(content)
	for _, space := range []string{"\n    ", "\n   "} {
		text = strings.ReplaceAll(text, "["+space, "[")
		text = strings.ReplaceAll(text, ","+space, ", ")
	}
	text = strings.ReplaceAll(text, "\n  ]", "]")
	return []byte(text)
}

// Find looks for the weights of a model: beside its file, then among those that
// come with the program. The file must be one of this very model; found is false
// where nobody has measured it.
func Find(path, hash string) (w Weights, found bool, err error) {
	w, err = Read(Beside(path))
	switch {
	case err == nil && w.Model != hash:
		return Weights{}, false, fmt.Errorf("%s: measured of another model (%.12s…, this one is %.12s…): measure this one with `api models calibrate`", Beside(path), w.Model, hash)
	case err == nil:
		return w, true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return Weights{}, false, err
	}
	names, err := fs.Glob(known, "*.json")
	if err != nil {
		return Weights{}, false, err
	}
	for _, name := range names {
		content, err := known.ReadFile(name)
		if err != nil {
			return Weights{}, false, err
		}
		if w, err = Parse(content); err != nil {
			return Weights{}, false, fmt.Errorf("%s: %w", name, err)
		}
		if w.Model == hash {
			return w, true, nil
		}
	}
	return Weights{}, false, nil
}

// Beside is where the weights of a model are looked for first.
func Beside(model string) string { return strings.TrimSuffix(model, ".gguf") + Extension }
