package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"lessrag/cmd/api/bench"
	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/lesskernels/cpu"
)

type benchCmd struct {
	Caches    []string     `help:"Caches to measure, each with a budget after @: full, sinks@5%, h2o+less@512. Batches are measured with the first." default:"full,sinks@5%"`
	Depths    []int        `help:"Prompt lengths: each is prefilled, then decoding is timed behind it. 0 is a prompt of one token." default:"0,512,2000,8000"`
	Batches   []int        `help:"Answers decoded at a time, at depth 0." default:"1,4,8,16"`
	Tokens    int          `help:"Tokens decoded in each run." default:"64"`
	Runs      int          `help:"Runs of each work; the median counts." default:"3"`
	Patience  int          `help:"How often a run is repeated beside which other programs took more than a tenth of the machine." default:"2"`
	Seed      uint64       `help:"Seed of the prompts; each run has its own." default:"1"`
	Busy      int          `help:"Also decode beside this many processes that keep the cores busy, and say what share of the speed is kept." default:"0" placeholder:"N"`
	Peer      string       `help:"Run the same works through this peer, in turn with ours: llama.cpp. make peer builds it; with --embedding it is onnxruntime, with --documents sentence-transformers." enum:",llama.cpp,onnxruntime,sentence-transformers" default:""`
	PeerFiles []string     `help:"Weights that the peer reads. Default: ours, and for the default reader the same requantised to Q4_0." placeholder:"FILE"`
	Documents []string     `help:"Measure how fast the HTML pages of these directories come in, in a database of its own, in place of the decoder." placeholder:"DIR" type:"existingdir"`
	Pages     int          `help:"How many of those pages, drawn at random; 0 means all." default:"1000"`
	Slice     int          `help:"Pages in a row before it is the peer's turn." default:"50"`
	Python    string       `help:"The Python of --peer sentence-transformers, one with torch, sentence-transformers and psycopg." placeholder:"FILE" default:"python3"`
	Embedding bool         `help:"Measure the embedder on chunks of full length in place of the decoder."`
	Steps     bool         `help:"Measure where the time of a step goes, by cache and depth, and for each batch at depth 0, in place of rates."`
	Memory    bool         `help:"Measure the resident memory while four answers run, in place of rates."`
	Accuracy  []string     `help:"Measure the perplexity of these texts in int8 and in float32, in place of rates." placeholder:"FILE"`
	From      []string     `help:"Measure nothing: join the results that earlier runs have printed with --json." placeholder:"FILE"`
	Docs      string       `help:"Write the results as pages with figures into this directory: benchmarks.md, performance.md." placeholder:"DIR"`
	JSON      bool         `help:"Print one JSON object."`
	parsed    []benchCache `kong:"-"`
}

// benchCache is one entry of --caches.
type benchCache struct {
	name, budgetText string
	spec             cache.Spec
	budget           cache.Budget
}

// Run measures works of this machine, or joins earlier results, and prints a table.
func (c *benchCmd) Run(ctx context.Context, g *globals) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	results, err := c.results(ctx, g)
	if err != nil {
		return err
	}
	if c.Docs != "" {
		if err := results.WritePages(c.Docs); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(results)
	}
	return results.Print(os.Stdout)
}

// check refuses flags that make no sense.
func (c *benchCmd) check() error {
	switch {
	case c.Tokens < 2 || c.Runs < 1 || slices.Min(append(c.Batches, 1)) < 1 || slices.Min(append(c.Depths, 0)) < 0 || c.Busy < 0:
		return usageError{errors.New("--tokens must be at least 2; --runs and --batches at least 1; --depths and --busy at least 0")}
	case len(c.Caches) == 0:
		return usageError{errors.New("--caches names no cache")}
	case c.Peer != "" && c.Peer != c.peer():
		return usageError{fmt.Errorf("--peer %s does not do this work; here it is %s", c.Peer, c.peer())}
	case c.Pages < 0 || c.Slice < 1:
		return usageError{errors.New("--pages must be at least 0, and --slice at least 1")}
	case len(c.PeerFiles) > 0 && c.Peer != "llama.cpp":
		return usageError{errors.New("--peer-files goes with --peer llama.cpp")}
	}
	for _, text := range c.Caches {
		name, budget, _ := strings.Cut(text, "@")
		entry := benchCache{name: name, budgetText: budget}
		var err error
		if entry.spec, entry.budget, err = (cacheFlags{Cache: name, Budget: budget}).parse(); err != nil {
			return err
		}
		if entry.spec.Bounded() {
			entry.budgetText = cmp.Or(budget, defaultBudget)
		}
		c.parsed = append(c.parsed, entry)
	}
	return nil
}

// peer is the one that does the work that is asked for.
func (c *benchCmd) peer() string {
	switch {
	case len(c.Documents) > 0:
		return "sentence-transformers"
	case c.Embedding:
		return "onnxruntime"
	}
	return "llama.cpp"
}

func (c *benchCmd) results(ctx context.Context, g *globals) (bench.Results, error) {
	if len(c.From) > 0 {
		return joinResults(c.From)
	}
	r := bench.Results{
		Date:     bench.Now(),
		Commands: []string{commandLine(os.Args)},
		Machine:  bench.Machine{OS: runtime.GOOS + "/" + runtime.GOARCH, Processor: bench.Processor(), Kernels: cpu.Best().String(), Threads: threads(g.Threads)},
	}
	err := c.measure(ctx, &stack{globals: g}, &r)
	r.Finish()
	return r, err
}

// measure opens what is measured, and closes it.
func (c *benchCmd) measure(ctx context.Context, s *stack, r *bench.Results) (err error) {
	defer func() { err = errors.Join(err, s.close()) }()
	if len(c.Documents) > 0 {
		return c.measureDocuments(ctx, s, r)
	}
	if c.Embedding {
		return c.measureEmbedder(ctx, s, r)
	}
	began := time.Now()
	if err := s.openEngine(decode.Options{CacheMemory: 4 << 30, Profile: c.Steps}); err != nil {
		return err
	}
	r.LoadMs = milliseconds(time.Since(began))
	info := s.engine.Info()
	r.Model = bench.Model{Name: info.Name, File: filepath.Base(info.Path), StepBytes: info.StepBytes, TokenTerms: info.TokenTerms}
	switch {
	case len(c.Accuracy) > 0:
		return c.measureAccuracy(ctx, s, r)
	case c.Memory:
		last := c.parsed[len(c.parsed)-1]
		r.Memory, err = bench.MeasureMemory(ctx, s.engine, last.spec, last.budget, 4)
		return err
	case c.Steps:
		return c.measureSteps(ctx, s.engine, r)
	}
	r.Limits = measureLimits(s.Threads)
	err = c.measureWorks(ctx, s, r)
	r.Limits = r.Limits.Best(measureLimits(s.Threads))
	return err
}

// measureWorks times the works, ours and the peer's in turn.
func (c *benchCmd) measureWorks(ctx context.Context, s *stack, r *bench.Results) (err error) {
	session := bench.Session{Vocabulary: s.engine.Tokenizer().Size(), Runs: c.Runs, Patience: c.Patience, Seed: c.Seed, Progress: os.Stderr,
		Works: bench.Works(c.Depths, c.Batches, c.Tokens, c.Busy, s.engine.Info().Context)}
	var closeProbe func()
	session.Probe, closeProbe = openProbe(s.Threads)
	defer closeProbe()
	for _, cached := range c.parsed {
		session.Contenders = append(session.Contenders, bench.Contender{
			Runner: bench.Ours{Engine: s.engine, Spec: cached.spec, Budget: cached.budget},
			Name:   strings.TrimSpace("ours, " + cached.name + " " + cached.budgetText), Cache: cached.name, Budget: cached.budgetText, File: r.Model.File,
		})
	}
	if c.Peer != "" {
		files := c.PeerFiles
		if len(files) == 0 {
			files = bench.LlamaFiles(s.assets(), s.engine.Info().Path)
		}
		peers, closePeers, err := bench.OpenLlama(ctx, s.assets(), files, threads(s.Threads))
		if err != nil {
			return err
		}
		s.onClose(closePeers)
		session.Contenders = append(session.Contenders, peers...)
	}
	r.Measured, err = session.Measure(ctx)
	return err
}

// measureAccuracy scores texts twice; the second engine computes in float32.
func (c *benchCmd) measureAccuracy(ctx context.Context, s *stack, r *bench.Results) (err error) {
	var tokens []int32
	for _, file := range c.Accuracy {
		text, err := os.ReadFile(file)
		if err != nil {
			return usageError{fmt.Errorf("--accuracy: %w", err)}
		}
		tokens = append(tokens, s.engine.Tokenizer().Encode(string(text))...)
	}
	exact := &stack{globals: s.globals}
	defer func() { err = errors.Join(err, exact.close()) }()
	if err := exact.openEngine(decode.Options{Math: "float32"}); err != nil {
		return err
	}
	r.Accuracy, err = bench.MeasureAccuracy(ctx, s.engine, exact.engine, tokens)
	return err
}

// measureSteps profiles a step of every cache at every depth, and of every batch with
// the first one at depth 0.
func (c *benchCmd) measureSteps(ctx context.Context, engine *decode.Engine, r *bench.Results) error {
	r.Limits = measureLimits(engine.Info().Threads)
	probe, closeProbe := openProbe(engine.Info().Threads)
	defer closeProbe()
	measure := func(cached benchCache, depth, batch int, seed uint64) error {
		before := probe()
		step, err := bench.MeasureStep(ctx, engine, cached.name, cached.spec, cached.budget, depth, batch, c.Tokens, seed)
		step.Limits = bench.Limits{ReadGBs: max(before, probe())}
		r.Limits = r.Limits.Best(step.Limits)
		r.Steps = append(r.Steps, step)
		return err
	}
	for _, cached := range c.parsed {
		for i, depth := range c.Depths {
			if err := measure(cached, depth, 1, c.Seed+uint64(i)); err != nil {
				return err
			}
		}
	}
	for _, batch := range c.Batches {
		if batch == 1 {
			continue
		}
		if err := measure(c.parsed[0], 0, batch, c.Seed); err != nil {
			return err
		}
	}
	return nil
}

func (c *benchCmd) measureEmbedder(ctx context.Context, s *stack, r *bench.Results) (err error) {
	if err := s.openEmbedder(); err != nil {
		return err
	}
	assets := ""
	if c.Peer != "" {
		assets = s.assets()
	}
	const chunks = 32
	r.Texts, err = bench.MeasureTexts(ctx, s.embedder, assets, threads(s.Threads), chunks, c.Runs, c.Seed, os.Stderr)
	return err
}

// measureLimits reads the machine's bandwidth and int8 rate with the pool that
// the decoder would use.
func measureLimits(n int) bench.Limits {
	pool := cpu.NewPool(n)
	defer pool.Close()
	return bench.Limits{ReadGBs: cpu.ReadBandwidth(pool) / 1e9, Int8GOPs: cpu.Int8Peak(pool) / 1e9}
}

// openProbe returns what measures, in some tens of milliseconds and with a pool like the
// decoder's, how many GB/s memory gives now.
func openProbe(n int) (probe func() float64, closeProbe func()) {
	pool := cpu.NewPool(n)
	reader := cpu.NewReader(pool)
	return func() float64 { return reader.Bandwidth(75*time.Millisecond) / 1e9 }, pool.Close
}

// joinResults reads what earlier runs printed.
func joinResults(files []string) (bench.Results, error) {
	var sessions []bench.Results
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return bench.Results{}, usageError{fmt.Errorf("--from: %w", err)}
		}
		var r bench.Results
		if err := json.Unmarshal(data, &r); err != nil {
			return bench.Results{}, usageError{fmt.Errorf("--from %s: %w", file, err)}
		}
		sessions = append(sessions, r)
	}
	return bench.Merge(sessions...)
}

// commandLine is how the program was called, with its name alone and without what
// only says where the results go or where this machine has its Python.
func commandLine(args []string) string {
	words := []string{"bin/" + filepath.Base(args[0])}
	for i, arg := range args[1:] {
		switch {
		case args[i] == "--python":
			arg = "VENV/bin/python"
		case strings.HasPrefix(arg, "--python="):
			arg = "--python=VENV/bin/python"
		case arg == "--json":
			continue
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}
