package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"lessrag/decode/gguf"
)

type modelsCmd struct {
	List      modelsListCmd      `cmd:"" help:"List the readers in the assets directory."`
	Calibrate modelsCalibrateCmd `cmd:"" help:"Measure which heads of the reader find answers, for the cache vote (needs make fetch-eval)."`
	Inspect   modelsInspectCmd   `cmd:"" help:"Show a GGUF file's metadata and tensors."`
}

type modelsListCmd struct {
	JSON bool `help:"Print one JSON object."`
}

// listed is one model of `api models list`.
type listed struct {
	Path         string `json:"path"`
	Bytes        int64  `json:"bytes"`
	Architecture string `json:"architecture,omitempty"`
	Name         string `json:"name,omitempty"`
	Context      int    `json:"context,omitempty"`
	Error        string `json:"error,omitempty"` // why it cannot be read
}

// Run lists the readers; a file that cannot be read is listed with its reason.
func (c *modelsListCmd) Run(g *globals) error {
	paths, err := g.models()
	if err != nil {
		return err
	}
	models := []listed{}
	for _, path := range paths {
		models = append(models, list(path))
	}
	if c.JSON {
		return printJSON(map[string]any{"models": models})
	}
	if len(models) == 0 {
		fmt.Printf("no model in %s: run `make fetch`, or name a GGUF file with --model\n", g.assets())
	}
	for _, m := range models {
		if m.Error != "" {
			fmt.Printf("%s: cannot be read: %s\n", m.Path, m.Error)
			continue
		}
		fmt.Printf("%s: %s, %s, context %d, %s\n", m.Path, m.Name, m.Architecture, m.Context, bytesText(m.Bytes))
	}
	return nil
}

func list(path string) listed {
	l := listed{Path: path}
	if info, err := os.Stat(path); err == nil {
		l.Bytes = info.Size()
	}
	f, err := gguf.Open(path)
	if err != nil {
		l.Error = err.Error()
		return l
	}
	defer f.Close()
	l.Architecture, _ = f.String("general.architecture")
	l.Name, _ = f.String("general.name")
	l.Context, _ = f.Int(l.Architecture + ".context_length")
	return l
}

type modelsInspectCmd struct {
	File string `arg:"" optional:"" help:"A GGUF file; the reader of --model by default."`
	JSON bool   `help:"Print one JSON object."`
}

// inspected is what `api models inspect --json` prints.
type inspected struct {
	Path     string            `json:"path"`
	SHA256   string            `json:"sha256"`
	Metadata map[string]any    `json:"metadata"` // long arrays as their length
	Tensors  []inspectedTensor `json:"tensors"`
}

type inspectedTensor struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Dims  []int  `json:"dims"` // fastest first
	Bytes int    `json:"bytes"`
}

// Run prints what the file says of itself; it loads no weights.
func (c *modelsInspectCmd) Run(g *globals) (err error) {
	path := c.File
	if path == "" {
		if path, err = g.readerPath(); err != nil {
			return err
		}
	}
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	found, err := inspect(path, f)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(found)
	}
	fmt.Printf("%s\nsha256 %s\n\n", found.Path, found.SHA256)
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	for _, key := range f.Keys() {
		fmt.Fprintf(w, "%s\t%s\n", key, excerpt(fmt.Sprint(found.Metadata[key]), 80))
	}
	fmt.Fprintln(w)
	for _, t := range found.Tensors {
		fmt.Fprintf(w, "%s\t%s\t%v\t%s\n", t.Name, t.Type, t.Dims, bytesText(int64(t.Bytes)))
	}
	return w.Flush()
}

func inspect(path string, f *gguf.File) (inspected, error) {
	hash, err := f.Hash()
	if err != nil {
		return inspected{}, err
	}
	found := inspected{Path: path, SHA256: hash, Metadata: map[string]any{}}
	for _, key := range f.Keys() {
		found.Metadata[key] = value(f, key)
	}
	for _, t := range f.Tensors {
		found.Tensors = append(found.Tensors, inspectedTensor{t.Name, t.Type.String(), t.Dims, len(t.Data)})
	}
	return found, nil
}

// value is a key's value as JSON can show it; arrays longer than 8 are counted.
func value(f *gguf.File, key string) any {
	if v, ok := f.String(key); ok {
		return v
	}
	if v, ok := f.Bool(key); ok {
		return v
	}
	if v, ok := f.Int(key); ok {
		return v
	}
	if v, ok := f.Float(key); ok {
		return v
	}
	if v, ok := f.Strings(key); ok {
		return counted(v)
	}
	if v, ok := f.Ints(key); ok {
		return counted(v)
	}
	if v, ok := f.Floats(key); ok {
		return counted(v)
	}
	return "(another type)"
}

func counted[T any](values []T) any {
	if len(values) > 8 {
		return fmt.Sprintf("array of %d", len(values))
	}
	return values
}
