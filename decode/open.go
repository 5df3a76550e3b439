package decode

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"lessrag/decode/cache"
	"lessrag/decode/gguf"
	"lessrag/decode/model"
	"lessrag/decode/tokenizer"
)

// Open loads a GGUF model and starts its engine, on the CPU or on Options.Devices, which
// are closed with the engine, and where there is an error.
func Open(path string, o Options) (_ *Engine, err error) {
	defer func() {
		if err != nil {
			for _, d := range o.Devices {
				d.Close()
			}
		}
	}()
	o, err = o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // everything is copied out of it
	e, err := open(f, path, o)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return e, nil
}

// recoverFrom puts the model of a file on a device again.
func recoverFrom(path, hash string, b *model.CUDA) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := f.Hash()
	if err != nil {
		return err
	}
	if now != hash {
		return fmt.Errorf("%s is another file now", path)
	}
	return b.Recover(f)
}

func open(f *gguf.File, path string, o Options) (*Engine, error) {
	tok, err := tokenizer.FromGGUF(f)
	if err != nil {
		return nil, err
	}
	template, err := NewTemplate(f)
	if err != nil {
		return nil, err
	}
	loads, err := loadAll(f, tok, o)
	if err != nil {
		return nil, err
	}
	hash, err := f.Hash()
	if err != nil {
		closeAll(loads)
		return nil, err
	}
	var backends []Backend
	for _, l := range loads {
		backends = append(backends, l.backend)
	}
	all := newEngines(backends, vocabulary{piece: tok.Piece, isEnd: tok.IsEnd}, o, loads[0].clock)
	for i, l := range loads {
		if err := all[i].describe(l, path, hash); err != nil {
			all[0].Close()
			return nil, err
		}
		all[i].tokenizer, all[i].template = tok, template
	}
	return all[0], nil
}

// storedAs names the form of stored keys and values: that of the CPU, which a card shares. What either has computed of a
// passage serves the other.
func storedAs(math string) string {
	if math == cardMath {
		return string(model.Int8)
	}
	return math
}

// describe tells an engine which model it runs, from a file with a hash, and takes what is measured of it.
func (e *Engine) describe(l *loaded, path, hash string) error {
	config, o := l.Config(), e.options
	e.release = append(e.release, l.release)
	if b, ok := l.backend.(*model.CUDA); ok {
		e.recover = func() error { return recoverFrom(path, hash, b) }
	}
	e.info = Info{
		Name: config.Name, Architecture: config.Architecture, Path: path, Hash: hash,
		Context: config.Context, Layers: config.Layers, Heads: config.Heads, KVHeads: config.KVHeads,
		HeadDim: config.HeadDim, Vocab: config.Vocab,
		Parameters: l.Parameters(), WeightBytes: l.WeightBytes(),
		StepBytes: l.StepBytes(), TokenTerms: l.TokenTerms(), ScratchBytes: l.ScratchBytes(), TokenBytes: l.Shape(cache.Full).TokenBytes(),
		Math: o.Math, Device: l.device, ISA: l.isa, Threads: l.threads, CacheMemory: o.CacheMemory,
	}
	e.identity = hash + " " + storedAs(o.Math)
	maps := l.maps
	if maps != nil {
		e.info.Maps = &maps.Header
		text, err := json.Marshal([]any{maps.Header, fmt.Sprint(maps.LogScales)})
		if err != nil {
			return err
		}
		e.states = string(text)
	}
	if e.info.Name == "" {
		e.info.Name = strings.TrimSuffix(filepath.Base(path), ".gguf")
	}
	if e.headWeights != nil {
		return nil
	}
	var err error
	e.headWeights, err = findHeads(path, hash, config, maps)
	return err
}
