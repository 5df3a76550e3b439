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

	"lessrag/decode"
	"lessrag/decode/cache"
)

// Where `make fetch` puts things, below the assets directory.
const (
	defaultReader   = "models/SmolLM2-135M-Instruct.Q4_1.gguf"
	defaultEmbedder = "embedders/all-MiniLM-L6-v2"
	postgresHome    = "postgres/18"
)

// globals are the flags of every command.
type globals struct {
	Assets      string     `help:"What was fetched: models, embedders, Postgres. Looked for here, then beside the binary." default:"assets" placeholder:"DIR"`
	Data        string     `help:"What was made: the private Postgres cluster." default:"data" placeholder:"DIR"`
	DatabaseURL string     `help:"Use this Postgres (with pgvector) in place of the private cluster." env:"LESSRAG_DATABASE_URL,DATABASE_URL" placeholder:"URL"`
	Model       string     `help:"The reader, a GGUF file. Default: the one in assets." placeholder:"FILE"`
	Maps        string     `help:"Feature maps of LESS and head weights of vote for the reader, a .less file that api train wrote; none for none. Default: those built in for it." placeholder:"FILE"`
	Embedder    string     `help:"The embedder, a directory with model.safetensors and tokenizer.json. Default: the one in assets." placeholder:"DIR"`
	Reranker    string     `help:"Read the candidates of a search once more: a directory with a second embedder, such as make fetch-reranker brings, whose cosines are added, or with a cross-encoder (config.json, model.safetensors and tokenizer.json of a BERT for sequence classification). Default: none." placeholder:"DIR"`
	Device      deviceFlag `help:"Where to decode: auto, cpu, cuda, or cuda:0,2 for some of the cards. api serve uses all of them, other commands the first." default:"auto" placeholder:"DEVICE"`
	Threads     int        `help:"Threads of the decoder; 0 means one for each core." default:"0" placeholder:"N"`
	LogLevel    string     `help:"How much to log on standard error: ${enum}." enum:"debug,info,warn,error" default:"warn"`
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

// The cache where none is asked for: of raw prompts and texts, which may have no question, and of answers.
// docs/less.md has the measurements that answers' was chosen by.
const (
	defaultCache, defaultBudget = cache.Sinks, "2048"
	answerCache, answerBudget   = cache.Vote + "+less", "10%"
)

// caches is the help of --cache.
const caches = "Cache: policy[+less|+moment], policy one of full, sinks, streaming, h2o, tova, snapkv, vote, buzz, corm, cascade, elastic, elastic-values."

// cacheFlags choose the cache of a sequence.
type cacheFlags struct {
	Cache  string `help:"${caches}" default:"${default_cache}"`
	Budget string `help:"Budget of one sequence: 5% (of the model's context), 512 (tokens for each KV head) or 16MiB (bytes). Default: ${default_budget} for a bounded cache, what the tokens need for full."`
}

// parse reads the flags; a bad one is a usage error that names it.
func (f cacheFlags) parse() (cache.Spec, cache.Budget, error) {
	return parseCache(f.Cache, f.Budget, defaultBudget)
}

// answerCacheFlags choose the cache of answers. Where none is asked for it is the default, as far as the reader can
// run it: see suited.
type answerCacheFlags struct {
	Cache  string `help:"${caches} Default: ${answer_cache}; vote for a reader without feature maps." placeholder:"CACHE"`
	Budget string `help:"Budget of one answer: 5% (of the model's context), 512 (tokens for each KV head) or 16MiB (bytes). Default: ${answer_budget} for a bounded cache, what prompt and answer need for full."`
}

func (f answerCacheFlags) parse() (cache.Spec, cache.Budget, error) {
	return parseCache(cmp.Or(f.Cache, answerCache), f.Budget, f.bounded())
}

// bounded is the budget of a bounded cache, as text.
func (f answerCacheFlags) bounded() string { return cmp.Or(f.Budget, answerBudget) }

// suited names the default cache as a reader can run it: without feature maps it has no states. What was asked for is
// left as it is, and refused later where it cannot be had.
func (f answerCacheFlags) suited(info decode.Info) answerCacheFlags {
	switch {
	case f.Cache != "":
	case info.Maps == nil:
		return answerCacheFlags{cache.Vote, f.Budget}
	default:
		f.Cache = answerCache
	}
	return f
}

func parseCache(name, text, fallback string) (cache.Spec, cache.Budget, error) {
	spec, err := cache.ParseSpec(name)
	if err == nil {
		err = spec.Available()
	}
	if err != nil {
		return cache.Spec{}, cache.Budget{}, usageError{fmt.Errorf("--cache: %w", err)}
	}
	if text == "" && !spec.Bounded() {
		return spec, cache.Budget{}, nil
	}
	budget, err := cache.ParseBudget(cmp.Or(text, fallback))
	if err != nil {
		return cache.Spec{}, cache.Budget{}, usageError{fmt.Errorf("--budget: %w", err)}
	}
	return spec, budget, nil
}

// parseBytes reads an amount of memory.
func parseBytes(flag, text string) (int64, error) {
	budget, err := cache.ParseBudget(text)
	if err != nil || budget.Bytes == 0 {
		return 0, usageError{fmt.Errorf("%s %q: give an amount of memory such as 512MiB or 2GiB", flag, text)}
	}
	return budget.Bytes, nil
}
