package lesskernels

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// mapsKey is where the metadata of the safetensors file keep the Header.
const mapsKey = "less"

// gatePrefix stands before a policy's name in the name of its gate's tensor.
const gatePrefix = "gate."

// ReadMaps reads a .less file. Every count, size and value is checked.
func ReadMaps(path string) (*Maps, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read feature maps: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read feature maps: %w", err)
	}
	m, err := ParseMaps(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("read feature maps %s: %w", path, err)
	}
	return m, nil
}

// ParseMaps reads a .less file of size bytes: a safetensors file whose metadata
// hold the Header as JSON, and whose tensors are, for every layer l,
//
//	layers.l.phi.w1 [heads, headDim, hidden]    layers.l.psi.w1 [kvHeads, headDim, hidden]
//	layers.l.phi.w2 [heads, hidden, R]          layers.l.psi.w2 [kvHeads, hidden, R]
//	layers.l.psi.w3 [kvHeads, R, R]             layers.l.psi.s1, layers.l.psi.s2 [kvHeads, R]
//	layers.l.psi.fade [kvHeads, R], where features fade
//
// and [layers, kvHeads] gate.p for every policy p of the header's gates and, where they
// were measured, head_weights.
func ParseMaps(r io.ReaderAt, size int64) (*Maps, error) {
	file, err := ReadSafetensors(r, size)
	if err != nil {
		return nil, err
	}
	m := &Maps{}
	text, ok := file.Metadata[mapsKey]
	if !ok {
		return nil, fmt.Errorf("%w: no %q among the metadata: this safetensors file is no .less file", ErrMaps, mapsKey)
	}
	if err := json.Unmarshal([]byte(text), &m.Header); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrMaps, err)
	}
	if err := m.Header.check(); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrMaps, err)
	}
	if err := m.parse(file); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMaps, err)
	}
	return m, nil
}

func (m *Maps) parse(file *Safetensors) error {
	for layer := range m.Header.Layers {
		w := FeatureWeights{}
		tensors := w.tensors(layer, m.Header.Shape)
		if fade := w.fade(layer, m.Header.Shape); fade.in(file) {
			tensors = append(tensors, fade)
		}
		for _, t := range tensors {
			values, dtype, err := file.float32s(t.name, false, t.shape...)
			if err != nil {
				return err
			}
			*t.values, m.Type = values, dtype
		}
		f, err := NewFeatureMap(m.Header.Shape, w)
		if err != nil {
			return err
		}
		m.Layers = append(m.Layers, f)
	}
	m.LogScales = map[string][][]float32{}
	var err error
	for policy := range m.Header.Gates {
		if m.LogScales[policy], err = m.perHead(file, gatePrefix+policy, true); err != nil {
			return err
		}
	}
	if _, ok := file.Tensor("head_weights"); ok {
		m.HeadWeights, err = m.perHead(file, "head_weights", false)
	}
	return err
}

func (m *Maps) perHead(file *Safetensors, name string, negInf bool) ([][]float32, error) {
	kvHeads := m.Header.Shape.KVHeads
	flat, _, err := file.float32s(name, negInf, m.Header.Layers, kvHeads)
	if err != nil {
		return nil, err
	}
	return slices.Collect(slices.Chunk(flat, kvHeads)), nil
}

// mapTensor is one weight of a layer and its place in the file.
type mapTensor struct {
	name   string
	shape  []int
	values *[]float32
}

func (w *FeatureWeights) tensors(layer int, s FeatureShape) []mapTensor {
	name := func(part string) string { return fmt.Sprintf("layers.%d.%s", layer, part) }
	return []mapTensor{
		{name("phi.w1"), []int{s.Heads, s.HeadDim, s.Hidden}, &w.Wq1},
		{name("phi.w2"), []int{s.Heads, s.Hidden, s.Rank}, &w.Wq2},
		{name("psi.w1"), []int{s.KVHeads, s.HeadDim, s.Hidden}, &w.Wk1},
		{name("psi.w2"), []int{s.KVHeads, s.Hidden, s.Rank}, &w.Wk2},
		{name("psi.w3"), []int{s.KVHeads, s.Rank, s.Rank}, &w.Wk3},
		{name("psi.s1"), []int{s.KVHeads, s.Rank}, &w.S1},
		{name("psi.s2"), []int{s.KVHeads, s.Rank}, &w.S2},
	}
}

// fade is the one weight of a layer that need not be there.
func (w *FeatureWeights) fade(layer int, s FeatureShape) mapTensor {
	return mapTensor{fmt.Sprintf("layers.%d.psi.fade", layer), []int{s.KVHeads, s.Rank}, &w.Fade}
}

func (t mapTensor) in(file *Safetensors) bool {
	_, ok := file.Tensor(t.name)
	return ok
}

// Write writes a .less file, beside it first so that no half of one is ever
// found at path.
func (m *Maps) Write(path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".less-*")
	if err != nil {
		return fmt.Errorf("write feature maps: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write feature maps %s: %w", path, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	out := bufio.NewWriter(f)
	if err = errors.Join(m.Encode(out), out.Flush(), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Encode writes what ParseMaps reads. It refuses maps that would not be read.
func (m *Maps) Encode(w io.Writer) error {
	h := m.Header
	if err := h.check(); err != nil {
		return err
	}
	if m.Type != F32 && m.Type != BF16 {
		return fmt.Errorf("tensors of type %s: F32 or BF16 is needed", m.Type)
	}
	if len(m.Layers) != h.Layers {
		return fmt.Errorf("%d layers, the header says %d", len(m.Layers), h.Layers)
	}
	var tensors []namedTensor
	for layer, f := range m.Layers {
		if f.FeatureShape != h.Shape {
			return fmt.Errorf("layer %d has shape %+v, the header says %+v", layer, f.FeatureShape, h.Shape)
		}
		parts := f.tensors(layer, h.Shape)
		if len(f.Fade) > 0 {
			parts = append(parts, f.fade(layer, h.Shape))
		}
		for _, t := range parts {
			tensors = append(tensors, namedTensor{t.name, m.Type, t.shape, *t.values})
		}
	}
	type perHead struct {
		name string
		rows [][]float32
	}
	var rows []perHead
	for _, policy := range slices.Sorted(maps.Keys(h.Gates)) {
		rows = append(rows, perHead{gatePrefix + policy, m.LogScales[policy]})
	}
	if m.HeadWeights != nil {
		rows = append(rows, perHead{"head_weights", m.HeadWeights})
	}
	for _, t := range rows {
		flat := slices.Concat(t.rows...)
		if len(t.rows) != h.Layers || len(flat) != h.Layers*h.Shape.KVHeads {
			return fmt.Errorf("%s has %d rows and %d values, [%d, %d] is needed", t.name, len(t.rows), len(flat), h.Layers, h.Shape.KVHeads)
		}
		tensors = append(tensors, namedTensor{t.name, F32, []int{h.Layers, h.Shape.KVHeads}, flat})
	}
	text, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode the header: %w", err)
	}
	return writeSafetensors(w, map[string]string{mapsKey: string(text)}, tensors)
}
