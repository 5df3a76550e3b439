package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"lessrag/decode"
)

type perplexityCmd struct {
	File   string `arg:"" optional:"" help:"A text; or give token ids with --tokens." type:"existingfile"`
	Window int    `help:"Tokens in a window; each has a fresh cache, and a last partial one is dropped." default:"2048"`
	cacheFlags
	Block    int    `help:"Tokens fed at a time. 0 means 1 (the papers' way) for a bounded cache, 128 for full." default:"0"`
	Interval int    `help:"Tokens that a bounded cache may exceed its budget by between evictions; 1 is the papers' way." default:"1"`
	From     int    `help:"Count only predictions made at this position of the window, from 0, or later." default:"0"`
	Tokens   string `help:"Token ids in place of a text: a NumPy file of int32, one row a window." placeholder:"FILE.npy" type:"existingfile"`
	Row      int    `help:"Which row of --tokens." default:"0"`
	Math     string `help:"int8: packed weights and int8 activations; float32: the reference." enum:"int8,float32" default:"int8"`
	JSON     bool   `help:"Print one JSON object."`
}

// Run measures and prints the mean negative log-likelihood in nats.
func (c *perplexityCmd) Run(ctx context.Context, g *globals) (err error) {
	if (c.File == "") == (c.Tokens == "") {
		return usageError{errors.New("give either a text file or --tokens FILE.npy")}
	}
	spec, budget, err := c.parse()
	if err != nil {
		return err
	}
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openEngine(decode.Options{Math: c.Math, Interval: c.Interval}); err != nil {
		return err
	}
	tokens, err := c.load(s.engine)
	if err != nil {
		return err
	}
	report, err := s.engine.Perplexity(ctx, tokens, decode.PerplexityOptions{
		Window: c.Window, Block: c.Block, From: c.From, Cache: spec, Budget: budget,
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(report)
	}
	noteState(os.Stderr, report.StateNote)
	fmt.Printf("perplexity %.4f (%.5f nats a token over %d predictions), cache %s, %s a sequence\n",
		report.Perplexity, report.NLL, report.Tokens, spec, bytesText(report.BytesPerSequence))
	return nil
}

func (c *perplexityCmd) load(engine *decode.Engine) ([]int32, error) {
	if c.Tokens != "" {
		f, err := os.Open(c.Tokens)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		row, err := readRow(f, c.Row)
		if err != nil {
			return nil, fmt.Errorf("--tokens %s: %w", c.Tokens, err)
		}
		return row, nil
	}
	text, err := os.ReadFile(c.File)
	if err != nil {
		return nil, err
	}
	return engine.Tokenizer().Encode(string(text)), nil
}
