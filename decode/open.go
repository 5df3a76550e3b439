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
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
)

// Open loads a GGUF model for the CPU and starts its engine.
func Open(path string, o Options) (*Engine, error) {
	o, err := o.withDefaults()
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

func open(f *gguf.File, path string, o Options) (*Engine, error) {
	tok, err := tokenizer.FromGGUF(f)
	if err != nil {
		return nil, err
	}
	template, err := NewTemplate(f)
	if err != nil {
		return nil, err
	}
	pool := cpu.NewPool(o.Threads)
	backend, maps, err := load(f, tok, o, pool)
	if err != nil {
		pool.Close()
		return nil, err
	}
	config := backend.Config()
	hash, err := f.Hash()
	if err != nil {
		pool.Close()
		return nil, err
	}
	if o.Profile {
		backend.Clock = &model.Clock{}
	}
	e := newEngine(backend, vocabulary{piece: tok.Piece, isEnd: tok.IsEnd}, o, backend.Clock)
	e.release = append(e.release, pool.Close)
	e.tokenizer, e.template = tok, template
	e.info = Info{
		Name: config.Name, Architecture: config.Architecture, Path: path, Hash: hash,
		Context: config.Context, Layers: config.Layers, Heads: config.Heads, KVHeads: config.KVHeads,
		HeadDim: config.HeadDim, Vocab: config.Vocab,
		Parameters: backend.Parameters(), WeightBytes: backend.WeightBytes(),
		StepBytes: backend.StepBytes(), TokenTerms: backend.TokenTerms(), ScratchBytes: backend.ScratchBytes(), TokenBytes: backend.Shape(cache.Full).TokenBytes(),
		Math: o.Math, ISA: cpu.Best().String(), Threads: pool.Threads(),
	}
	e.identity = fmt.Sprintf("%s %s", hash, o.Math)
	if maps != nil {
		e.info.Maps = &maps.Header
		text, err := json.Marshal([]any{maps.Header, fmt.Sprint(maps.LogScales)})
		if err != nil {
			e.Close()
			return nil, err
		}
		e.states = string(text)
	}
	if e.headWeights == nil {
		e.headWeights, err = findHeads(path, hash, config, maps)
	}
	if err != nil {
		e.Close()
		return nil, err
	}
	if e.info.Name == "" {
		e.info.Name = strings.TrimSuffix(filepath.Base(path), ".gguf")
	}
	return e, nil
}

// load packs the model, checks it against its tokenizer and gives it its feature
// maps, if there are any. Meanwhile the file is hashed.
func load(f *gguf.File, tok *tokenizer.Tokenizer, o Options, pool *cpu.Pool) (*model.CPU, *lesskernels.Maps, error) {
	hashed := make(chan struct{})
	go func() { defer close(hashed); f.Hash() }()
	backend, err := model.NewCPU(f, model.Math(o.Math), o.limits(), pool)
	<-hashed
	if err != nil {
		return nil, nil, err
	}
	config := backend.Config()
	if tok.Size() > config.Vocab {
		return nil, nil, fmt.Errorf("the tokenizer has %d tokens and the model %d", tok.Size(), config.Vocab)
	}
	if n := config.Layers * config.KVHeads; o.HeadWeights != nil && len(o.HeadWeights) != n {
		return nil, nil, fmt.Errorf("%d head weights for a model of %d KV heads", len(o.HeadWeights), n)
	}
	maps, err := findMaps(o.Maps, f, config)
	if err != nil || maps == nil {
		return backend, nil, err
	}
	return backend, maps, backend.UseMaps(maps)
}
