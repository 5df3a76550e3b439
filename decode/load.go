package decode

import (
	"fmt"

	"lessrag/decode/gguf"
	"lessrag/decode/model"
	"lessrag/decode/tokenizer"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/cuda/device"
)

// backend is a Backend with what there is to tell of its model.
type backend interface {
	Backend
	Parameters() int64
	WeightBytes() int64
	StepBytes() int64
	TokenTerms() int64
	ScratchBytes() int64
}

// loaded is a model on its device.
type loaded struct {
	backend
	maps    *lesskernels.Maps // nil: none
	clock   *model.Clock      // nil unless Options.Profile
	device  string            // "CPU", or which card
	isa     string            // what computes, in words
	threads int
	release func() // after the backend was closed
}

// loadAll loads the model on every device. Meanwhile the file is hashed.
func loadAll(f *gguf.File, tok *tokenizer.Tokenizer, o Options) (all []*loaded, err error) {
	hashed := make(chan struct{})
	go func() { defer close(hashed); f.Hash() }()
	defer func() { <-hashed }()
	for i := range max(1, len(o.Devices)) {
		l, err := load(f, tok, o, i)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

func closeAll(all []*loaded) {
	for _, l := range all {
		l.Close()
		l.release()
	}
}

// load packs the model for a device, checks it against its tokenizer and gives it its feature
// maps, if there are any.
func load(f *gguf.File, tok *tokenizer.Tokenizer, o Options, i int) (l *loaded, err error) {
	if o.onCards() {
		l, err = openCUDA(f, o, o.Devices[i])
	} else {
		l, err = openCPU(f, o)
	}
	if err != nil {
		return nil, err
	}
	config := l.Config()
	switch n := config.Layers * config.KVHeads; {
	case tok.Size() > config.Vocab:
		err = fmt.Errorf("the tokenizer has %d tokens and the model %d", tok.Size(), config.Vocab)
	case o.HeadWeights != nil && len(o.HeadWeights) != n:
		err = fmt.Errorf("%d head weights for a model of %d KV heads", len(o.HeadWeights), n)
	}
	if err != nil {
		closeAll([]*loaded{l})
		return nil, err
	}
	return l, nil
}

func openCPU(f *gguf.File, o Options) (*loaded, error) {
	pool := cpu.NewPool(o.Threads)
	b, maps, err := mappedCPU(f, o, pool)
	if err != nil {
		pool.Close()
		return nil, err
	}
	if o.Profile {
		b.Clock = &model.Clock{}
	}
	return &loaded{backend: b, maps: maps, clock: b.Clock, device: "CPU", isa: cpu.Best().String(), threads: pool.Threads(), release: pool.Close}, nil
}

func mappedCPU(f *gguf.File, o Options, pool *cpu.Pool) (*model.CPU, *lesskernels.Maps, error) {
	b, err := model.NewCPU(f, model.Math(o.Math), o.limits(), pool)
	if err != nil {
		return nil, nil, err
	}
	maps, err := useMaps(b, f, o)
	return b, maps, err
}

// useMaps gives a backend the feature maps of its model, if there are any.
func useMaps(b interface {
	Config() model.Config
	UseMaps(*lesskernels.Maps) error
}, f *gguf.File, o Options) (*lesskernels.Maps, error) {
	maps, err := findMaps(o.Maps, f, b.Config())
	if err != nil || maps == nil {
		return nil, err
	}
	return maps, b.UseMaps(maps)
}

// openCUDA puts the model on a card.
func openCUDA(f *gguf.File, o Options, d device.Device) (*loaded, error) {
	info, err := d.Info()
	if err != nil {
		return nil, err
	}
	b, err := model.NewCUDA(f, o.limits(), o.CacheMemory, d)
	if err != nil {
		return nil, err
	}
	maps, err := useMaps(b, f, o)
	if err != nil {
		b.Close()
		return nil, err
	}
	return &loaded{backend: b, maps: maps, device: info.Label(), isa: info.Name, release: func() {}}, nil
}
