package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"

	"lessrag/cmd/api/eval"
	"lessrag/decode"
	"lessrag/decode/recall"
)

// evalCacheCmd measures caches at equal bytes.
type evalCacheCmd struct {
	Caches  []string `help:"Caches to compare, each as cache@budget: a share of the prompt's tokens (vote@10%) or tokens for each KV head (vote@400). All with one budget get the same bytes, states and statistics counted. all: every policy at 10%, the states, and what packs keys and values." default:"full,vote@10%,vote@5%,snapkv@10%,tova@10%,h2o@10%,sinks@10%" placeholder:"CACHE@BUDGET"`
	Lengths []int    `help:"Lengths of the prompts, in tokens." default:"2000,4000,7500" placeholder:"N"`
	Each    int      `help:"Prompts of each kind (synthetic, natural), length and depth (three)." default:"7" placeholder:"N"`
	Limit   int      `help:"Stop after so many prompts; they take turns in kind, length and depth. 0: all." default:"0" placeholder:"N"`
	Quick   bool     `help:"A small part of it: one prompt of each kind and depth, 2,000 tokens."`
	Seed    uint64   `help:"Seed of the prompts." default:"1"`
	Against string   `help:"Count on how many prompts each cache makes the true answer likelier than this one does, and on how many it alone gives it exactly." default:"snapkv@10%" placeholder:"CACHE@BUDGET"`
	Staging int      `help:"Tokens that a prompt is staged in for vote and snapkv; a longer one is read in chunks. 0: 4,096." default:"0" placeholder:"N"`
	Heads   string   `help:"Head weights of vote: ${enum}. random shuffles the measured ones, to see that they matter." enum:"measured,none,random" default:"measured"`
	Windows int      `help:"Also measure perplexity, over this many windows of 2,048 tokens of held-out pages, for the caches that ask no question." default:"0" placeholder:"N"`
	Log     string   `help:"Keep every measurement in this file and go on from it after an interruption." placeholder:"FILE" type:"path"`
	Plot    string   `help:"Draw SVG figures into this directory." placeholder:"DIR" type:"path"`
	JSON    bool     `help:"Print one JSON object."`
}

// recallDepths is how many parts of the documents facts are put into.
const recallDepths = 3

// Run lets every cache answer the same prompts and prints what came of it.
func (c *evalCacheCmd) Run(ctx context.Context, g *globals) (err error) {
	entries, err := c.entries()
	if err != nil {
		return err
	}
	pages, err := eval.Pages(ctx, g.assets(), false)
	if err != nil {
		return err
	}
	log, err := eval.OpenLog(c.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := c.open(s); err != nil {
		return err
	}
	prompts, err := c.prompts(s.engine, pages)
	if err != nil {
		return err
	}
	e, err := eval.MeasureCaches(ctx, s.engine, prompts, pages, entries,
		eval.CacheOptions{Seed: c.Seed, Staging: c.Staging, Heads: c.Heads, Against: c.Against, Windows: c.Windows}, log)
	if err != nil {
		return err
	}
	if c.Plot != "" {
		if err := e.Plot(c.Plot); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(e)
	}
	return e.Print(os.Stdout)
}

// entries reads --caches.
func (c *evalCacheCmd) entries() ([]eval.Entry, error) {
	if c.Quick {
		c.Each, c.Lengths = 1, []int{2000}
	}
	if c.Each < 1 || len(c.Lengths) == 0 || slices.Min(c.Lengths) < 1000 || c.Windows < 0 || c.Limit < 0 {
		return nil, usageError{errors.New("--each is at least 1, --lengths at least 1000, --windows and --limit not negative")}
	}
	if slices.Equal(c.Caches, []string{"all"}) {
		c.Caches = eval.AllCaches
	}
	var entries []eval.Entry
	for _, text := range c.Caches {
		e, err := eval.ParseEntry(text)
		if err != nil {
			return nil, usageError{fmt.Errorf("--caches: %w", err)}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// open loads the reader with the head weights that were asked for.
func (c *evalCacheCmd) open(s *stack) error {
	o := decode.Options{StagingTokens: c.Staging}
	if err := s.openEngine(o); err != nil || c.Heads == "measured" {
		return err
	}
	info, weights := s.engine.Info(), s.engine.HeadWeights()
	if err := s.close(); err != nil {
		return err
	}
	switch {
	case c.Heads == "none":
		weights = make([]float32, info.Layers*info.KVHeads)
	case weights == nil:
		return usageError{fmt.Errorf("--heads random: none are known of %s; measure them with `api models calibrate`", info.Name)}
	}
	random := rand.New(rand.NewPCG(c.Seed, 1))
	random.Shuffle(len(weights), func(i, j int) { weights[i], weights[j] = weights[j], weights[i] })
	o.HeadWeights = weights
	return s.openEngine(o)
}

// prompts are those of the set, in turns: whatever is interrupted has seen some of
// all kinds, lengths and depths.
func (c *evalCacheCmd) prompts(engine *decode.Engine, pages []recall.Page) ([]recall.Encoded, error) {
	all, err := recall.Generate(pages, engine.Tokenizer(), recall.Options{Lengths: c.Lengths, Depths: recallDepths, Each: c.Each, Seed: c.Seed})
	if err != nil {
		return nil, err
	}
	var encoded []recall.Encoded
	for turn := range c.Each {
		for i := turn; i < len(all); i += c.Each {
			e, err := all[i].Encode(engine.Tokenizer(), engine.Template())
			if err != nil {
				return nil, err
			}
			encoded = append(encoded, e)
		}
	}
	if c.Limit > 0 {
		encoded = encoded[:min(c.Limit, len(encoded))]
	}
	return encoded, nil
}
