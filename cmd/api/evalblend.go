package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"lessrag/cmd/api/eval"
	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/decode/passages"
)

// evalBlendCmd measures what answers from blended passages lose and gain.
type evalBlendCmd struct {
	Questions int       `help:"Questions to ask, of the FAQs of make fetch-eval. Fewer than 100 leave the gate shut." default:"100" placeholder:"N"`
	Passages  int       `help:"Passages in a prompt: the one that answers, and others." default:"6" placeholder:"N"`
	Tokens    int       `help:"Tokens of a passage." default:"512" placeholder:"N"`
	Shares    []float64 `help:"Shares of the passages' rows that are computed anew. The first is the one that --write writes." default:"0.15" placeholder:"R"`
	Memories  []float64 `help:"Also read passages of which only memories are kept, in these shares of their bytes." placeholder:"R"`
	Cache     string    `help:"Cache of --memories: one of sinks, h2o, tova and corm with a state." default:"h2o+less"`
	MaxTokens int       `help:"Tokens of an answer." default:"64" placeholder:"N"`
	Seed      uint64    `help:"Seed of the choice of questions and of the other passages." default:"1"`
	Novel     int       `help:"Also time so many pairs of prompts of passages that nobody has asked about: what looking for them costs." default:"0" placeholder:"N"`
	Write     bool      `help:"Write what was measured beside the model: questions are answered from blended passages from then on if the model stands it, and never if it does not."`
	Log       string    `help:"Keep every finished question in this file and go on from it after an interruption." placeholder:"FILE" type:"path"`
	JSON      bool      `help:"Print one JSON object."`
}

// Run asks every question of every share and prints means.
func (c *evalBlendCmd) Run(ctx context.Context, g *globals) (err error) {
	switch {
	case c.Questions < 1 || c.Passages < 1 || c.Tokens < 64 || c.MaxTokens < 1 || len(c.Shares) == 0:
		return usageError{errors.New("--questions, --passages and --max-tokens are at least 1, --tokens at least 64")}
	case len(c.Memories) > 0 && (slices.Min(c.Memories) <= 0 || slices.Max(c.Memories) >= 1):
		return usageError{errors.New("--memories are above 0 and below 1")}
	case slices.Min(c.Shares) <= 0 || slices.Max(c.Shares) > 1:
		return usageError{errors.New("--shares are above 0 and at most 1")}
	}
	spec, err := cache.ParseSpec(c.Cache)
	if err == nil && !spec.Remembers() {
		err = fmt.Errorf("cache %s takes no passage memories", spec)
	}
	if err != nil {
		return usageError{fmt.Errorf("--cache: %w", err)}
	}
	store, err := passages.Open(passages.Options{Memory: 1 << 30})
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
	if err := s.openEngine(decode.Options{Passages: store}); err != nil {
		return err
	}
	o := eval.BlendOptions{Questions: c.Questions, Passages: c.Passages, Tokens: c.Tokens, Shares: c.Shares, Memories: c.Memories, Cache: spec,
		MaxTokens: c.MaxTokens, Seed: c.Seed, Novel: c.Novel}
	e, err := eval.MeasureBlend(ctx, s.engine, filepath.Join(g.assets(), "faq"), o, log)
	if err != nil {
		return err
	}
	if c.Write {
		if err := e.Gates[0].Write(passages.BesideModel(s.engine.Info().Path)); err != nil {
			return fmt.Errorf("write the gate: %w", err)
		}
	}
	if c.JSON {
		return printJSON(e)
	}
	if err := e.Print(os.Stdout, o); err != nil {
		return err
	}
	if c.Write {
		fmt.Println("written beside the model; `--blend on` and `--blend off` overrule it")
	}
	return nil
}
