package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sort"

	"lessrag/decode/cache"
	"lessrag/lesskernels/cuda/device"
)

// Where `make fetch` puts things, below the assets directory.
const (
	defaultReader   = "models/SmolLM2-135M-Instruct.Q4_1.gguf"
	defaultEmbedder = "embedders/all-MiniLM-L6-v2"
	postgresHome    = "postgres/18"
)

// globals are the flags of every command.
type globals struct {
	Assets      string `help:"What was fetched: models, embedders, Postgres. Looked for here, then beside the binary." default:"assets" placeholder:"DIR"`
	Data        string `help:"What was made: the private Postgres cluster." default:"data" placeholder:"DIR"`
	DatabaseURL string `help:"Use this Postgres (with pgvector) in place of the private cluster." env:"LESSRAG_DATABASE_URL,DATABASE_URL" placeholder:"URL"`
	Model       string `help:"The reader, a GGUF file. Default: the one in assets." placeholder:"FILE"`
	Maps        string `help:"Feature maps of LESS and head weights of vote for the reader, a .less file that api train wrote; none for none. Default: those built in for it." placeholder:"FILE"`
	Embedder    string `help:"The embedder, a directory with model.safetensors and tokenizer.json. Default: the one in assets." placeholder:"DIR"`
	Reranker    string `help:"Read the candidates of a search once more with this cross-encoder, a directory with config.json, model.safetensors and tokenizer.json of a BERT for sequence classification. Default: none." placeholder:"DIR"`
	Device      string `help:"Where to decode: ${enum}." enum:"auto,cpu,cuda" default:"auto"`
	Threads     int    `help:"Threads of the decoder; 0 means one for each core." default:"0" placeholder:"N"`
	LogLevel    string `help:"How much to log on standard error: ${enum}." enum:"debug,info,warn,error" default:"warn"`
}

func (g *globals) level() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(g.LogLevel)); err != nil {
		return slog.LevelWarn // unreachable: kong has checked the flag
	}
	return level
}

// assets resolves the assets directory: as given, else beside the binary.
func (g *globals) assets() string {
	if _, err := os.Stat(g.Assets); err == nil {
		return g.Assets
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "..", "assets")
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return g.Assets
}

// readerPath is the path of the GGUF file, checked to exist.
func (g *globals) readerPath() (string, error) {
	return g.existing("--model", g.Model, defaultReader)
}

// embedderDir is the directory of the embedding model, checked to exist.
func (g *globals) embedderDir() (string, error) {
	return g.existing("--embedder", g.Embedder, defaultEmbedder)
}

func (g *globals) existing(flag, given, fallback string) (string, error) {
	if given != "" {
		if _, err := os.Stat(given); err != nil {
			return "", usageError{fmt.Errorf("%s: %w", flag, err)}
		}
		return given, nil
	}
	path := filepath.Join(g.assets(), fallback)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is missing: run `make fetch`, or name another with %s", path, flag)
	} else if err != nil {
		return "", err
	}
	return path, nil
}

// models lists the GGUF files in the assets directory.
func (g *globals) models() ([]string, error) {
	found, err := filepath.Glob(filepath.Join(g.assets(), "models", "*.gguf"))
	sort.Strings(found)
	return found, err
}

// openDevice takes the card that --device asks for, nil for the CPU. No card has run
// the decoder yet, so auto does not ask for one.
func (g *globals) openDevice() (device.Device, error) {
	if g.Device != "cuda" {
		return nil, nil
	}
	d, err := device.Open()
	if err != nil {
		return nil, usageError{fmt.Errorf("--device cuda: %w; --device cpu needs no card", err)}
	}
	return d, nil
}

// defaultBudget is the tokens that a bounded cache keeps: room for the default
// prompt, its answer, and a few earlier turns.
const defaultBudget = "2048"

// cacheFlags choose the cache of a sequence.
type cacheFlags struct {
	Cache  string `help:"Cache: policy[+less|+moment], policy one of full, sinks, streaming, h2o, tova, snapkv, vote, buzz, corm, cascade, elastic, elastic-values." default:"${default_cache}"`
	Budget string `help:"Budget of one sequence: 5% (of the model's context), 512 (tokens for each KV head) or 16MiB (bytes). Default: ${default_budget} for a bounded cache, what the tokens need for full."`
}

// parse reads the flags; a bad one is a usage error that names it.
func (f cacheFlags) parse() (cache.Spec, cache.Budget, error) {
	spec, err := cache.ParseSpec(f.Cache)
	if err == nil {
		err = spec.Available()
	}
	if err != nil {
		return cache.Spec{}, cache.Budget{}, usageError{fmt.Errorf("--cache: %w", err)}
	}
	if f.Budget == "" && !spec.Bounded() {
		return spec, cache.Budget{}, nil
	}
	budget, err := cache.ParseBudget(f.bounded())
	if err != nil {
		return cache.Spec{}, cache.Budget{}, usageError{fmt.Errorf("--budget: %w", err)}
	}
	return spec, budget, nil
}

// bounded is the budget of a bounded cache, as text.
func (f cacheFlags) bounded() string { return cmp.Or(f.Budget, defaultBudget) }

// parseBytes reads an amount of memory.
func parseBytes(flag, text string) (int64, error) {
	budget, err := cache.ParseBudget(text)
	if err != nil || budget.Bytes == 0 {
		return 0, usageError{fmt.Errorf("%s %q: give an amount of memory such as 512MiB or 2GiB", flag, text)}
	}
	return budget.Bytes, nil
}
