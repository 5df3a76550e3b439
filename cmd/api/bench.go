package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"

	"lessrag/decode"
	"lessrag/lesskernels/cpu"
)

type benchCmd struct {
	cacheFlags
	Depths  []int  `help:"Tokens in the cache before decoding is timed." default:"0,2000,8000"`
	Batches []int  `help:"Answers decoded at a time, at depth 0." default:"1,4,8"`
	Prefill []int  `help:"Prompt lengths whose prefill is timed." default:"512"`
	Tokens  int    `help:"Tokens decoded in each run." default:"64"`
	Runs    int    `help:"Runs of each work; the median counts." default:"3"`
	Seed    uint64 `help:"Seed of the prompts; each run has its own." default:"1"`
	JSON    bool   `help:"Print one JSON object."`
}

// benchmark is what --json prints.
type benchmark struct {
	Machine machine    `json:"machine"`
	Limits  limits     `json:"limits"`
	Runs    []measured `json:"runs"`
}

type machine struct {
	OS      string `json:"os"`
	CPU     string `json:"cpu"`
	Threads int    `json:"threads"`
	Model   string `json:"model"`
}

// limits are what the machine allows, measured in the same run.
type limits struct {
	ReadGBs  float64 `json:"read_gb_s"`
	Int8GOPs float64 `json:"int8_gops"`
}

// measured is one work and the median of its value.
type measured struct {
	Work   string  `json:"work"` // prefill, ttft or decode
	Tokens int     `json:"tokens"`
	Depth  int     `json:"depth"`
	Batch  int     `json:"batch"`
	Cache  string  `json:"cache"`
	Budget string  `json:"budget"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
}

// Run measures this machine's limits, then each work, and prints a table.
func (c *benchCmd) Run(ctx context.Context, g *globals) (err error) {
	if c.Tokens < 2 || c.Runs < 1 || slices.Min(append(c.Batches, 1)) < 1 || slices.Min(append(c.Depths, 0)) < 0 || slices.Min(append(c.Prefill, 1)) < 1 {
		return usageError{errors.New("--tokens must be at least 2; --runs, --batches and --prefill at least 1; --depths at least 0")}
	}
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openEngine(decode.Options{CacheMemory: 4 << 30}); err != nil {
		return err
	}
	info := s.engine.Info()
	b := benchmark{
		Machine: machine{runtime.GOOS + "/" + runtime.GOARCH, cpu.Best().String(), threads(g.Threads), info.Name},
		Limits:  measureLimits(g.Threads),
	}
	if b.Runs, err = c.measure(ctx, s.engine); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(b)
	}
	return b.print()
}

func (b benchmark) print() error {
	fmt.Printf("%s, %s kernels, %d threads, %s\nreads %.1f GB/s; int8 products at most %.0f GOP/s\n\n",
		b.Machine.OS, b.Machine.CPU, b.Machine.Threads, b.Machine.Model, b.Limits.ReadGBs, b.Limits.Int8GOPs)
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "work\ttokens\tdepth\tbatch\tcache\tvalue\tunit\t")
	for _, r := range b.Runs {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s %s\t%.1f\t%s\t\n", r.Work, r.Tokens, r.Depth, r.Batch, r.Cache, r.Budget, r.Value, r.Unit)
	}
	return w.Flush()
}

// measureLimits reads the machine's bandwidth and int8 rate with the pool that
// the decoder would use.
func measureLimits(n int) limits {
	pool := cpu.NewPool(n)
	defer pool.Close()
	return limits{ReadGBs: cpu.ReadBandwidth(pool) / 1e9, Int8GOPs: cpu.Int8Peak(pool) / 1e9}
}

// measure times every work Runs times, the works in turn, so that a machine
// that slows down slows all of them, and takes medians.
func (c *benchCmd) measure(ctx context.Context, engine *decode.Engine) ([]measured, error) {
	works := c.works(engine.Info().Context)
	values := make([][]float64, len(works))
	for i := range c.Runs {
		for w, work := range works {
			value, err := c.time(ctx, engine, work, c.Seed+uint64(i*len(works)+w))
			if err != nil {
				return nil, fmt.Errorf("%s of %d tokens at depth %d: %w", work.Work, work.Tokens, work.Depth, err)
			}
			values[w] = append(values[w], value)
			fmt.Fprintf(os.Stderr, "%s, %d tokens, depth %d, batch %d: %.1f %s\n", work.Work, work.Tokens, work.Depth, work.Batch, value, work.Unit)
		}
	}
	for w := range works {
		slices.Sort(values[w])
		works[w].Value = values[w][len(values[w])/2]
	}
	return works, nil
}

// works lists what is measured; a depth is cut to what the context allows.
func (c *benchCmd) works(context int) []measured {
	var works []measured
	budget := c.Budget
	if spec, _, err := c.parse(); err == nil && spec.Bounded() {
		budget = c.bounded()
	}
	add := func(work string, tokens, depth, batch int, unit string) {
		works = append(works, measured{Work: work, Tokens: tokens, Depth: depth, Batch: batch, Cache: c.Cache, Budget: budget, Unit: unit})
	}
	for _, n := range c.Prefill {
		add("prefill", min(n, context-2), 0, 1, "tokens/s")
		add("ttft", min(n, context-2), 0, 1, "ms")
	}
	for _, depth := range c.Depths {
		add("decode", c.Tokens, min(depth, context-c.Tokens-1), 1, "tokens/s")
	}
	for _, batch := range c.Batches {
		if batch > 1 {
			add("decode", c.Tokens, 0, batch, "tokens/s")
		}
	}
	return works
}

// time runs one work with prompts that no run has had before.
func (c *benchCmd) time(ctx context.Context, engine *decode.Engine, work measured, seed uint64) (float64, error) {
	spec, budget, err := c.parse()
	if err != nil {
		return 0, err
	}
	random := rand.New(rand.NewPCG(seed, 0))
	var streams []<-chan decode.Chunk
	for range work.Batch {
		r := decode.Request{Prompt: words(random, engine, max(work.Depth, 1)), Cache: spec, Budget: budget, MaxTokens: work.Tokens, IgnoreEnd: true}
		if work.Work != "decode" {
			r.Prompt, r.MaxTokens = words(random, engine, work.Tokens), 1
		}
		stream, err := engine.Submit(ctx, r)
		if err != nil {
			return 0, err
		}
		streams = append(streams, stream)
	}
	var rate float64
	for _, stream := range streams {
		result, err := last(stream)
		if err != nil {
			return 0, err
		}
		switch work.Work {
		case "prefill":
			return float64(result.PromptTokens) / result.Prefill.Seconds(), nil
		case "ttft":
			return milliseconds(result.TTFT), nil
		}
		rate += perSecond(result)
	}
	return rate, nil
}

// words are n random tokens of the vocabulary: no cache can know them.
func words(random *rand.Rand, engine *decode.Engine, n int) []int32 {
	prompt := make([]int32, n)
	size := engine.Tokenizer().Size()
	for i := range prompt {
		for prompt[i] = int32(random.IntN(size)); engine.Tokenizer().IsEnd(prompt[i]); {
			prompt[i] = int32(random.IntN(size))
		}
	}
	return prompt
}

// last waits for the result of a stream.
func last(stream <-chan decode.Chunk) (*decode.Result, error) {
	for chunk := range stream {
		if chunk.Err != nil || chunk.Result != nil {
			return chunk.Result, chunk.Err
		}
	}
	return nil, errors.New("the decoder ended without a result")
}
