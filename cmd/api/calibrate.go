package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"lessrag/cmd/api/eval"
	"lessrag/cmd/api/progress"
	"lessrag/decode"
	"lessrag/decode/cache"
	"lessrag/decode/heads"
	"lessrag/decode/recall"
)

// modelsCalibrateCmd measures which KV heads find answers.
type modelsCalibrateCmd struct {
	Each    int    `help:"Prompts of each kind, length and depth." default:"2" placeholder:"N"`
	Lengths []int  `help:"Lengths of the prompts, in tokens." default:"1500,2500" placeholder:"N"`
	Seed    uint64 `help:"Seed of the prompts." default:"777"`
	Output  string `help:"File to write. Default: beside the model, where it is found." short:"o" placeholder:"FILE" type:"path"`
	Plot    string `help:"Draw the heaviest heads into this SVG file." placeholder:"FILE" type:"path"`
	JSON    bool   `help:"Print one JSON object."`
}

// calibrationDepths is how many parts of the documents answers are put into.
const calibrationDepths = 3

// Run asks for facts in documents and sees which heads look at them.
func (c *modelsCalibrateCmd) Run(ctx context.Context, g *globals) (err error) {
	if c.Each < 1 || len(c.Lengths) == 0 || slices.Min(c.Lengths) < 500 {
		return usageError{errors.New("--each is at least 1, --lengths at least 500")}
	}
	pages, err := eval.Pages(ctx, g.assets(), true)
	if err != nil {
		return err
	}
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openEngine(decode.Options{}); err != nil {
		return err
	}
	prompts, err := recall.Generate(pages, s.engine.Tokenizer(), recall.Options{
		Lengths: c.Lengths, Depths: calibrationDepths, Each: c.Each, Seed: c.Seed, Calibration: true,
	})
	if err != nil {
		return err
	}
	sum, err := look(ctx, s.engine, prompts)
	if err != nil {
		return err
	}
	info := s.engine.Info()
	w := heads.Weigh(info.KVHeads, sum.Sentence, sum.Answer)
	if info.Hash == "" {
		return fmt.Errorf("%s cannot be read any more", info.Path)
	}
	w.Model, w.Name, w.Prompts, w.Lengths, w.Seed, w.Documents = info.Hash, info.Name, len(prompts), c.Lengths, c.Seed, eval.Documents
	path := c.Output
	if path == "" {
		path = heads.Beside(info.Path)
	}
	if err := w.Write(path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if c.Plot != "" {
		if err := plotHeads(c.Plot, w); err != nil {
			return fmt.Errorf("draw %s: %w", c.Plot, err)
		}
	}
	if c.JSON {
		return printJSON(w)
	}
	fmt.Printf("%s\n%s", path, heaviest(w))
	return nil
}

// look adds up what every head looked at in all prompts, divided by their number.
func look(ctx context.Context, engine *decode.Engine, prompts []recall.Prompt) (mean decode.Attention, err error) {
	shown := progress.New(os.Stderr, "calibrating", len(prompts))
	defer shown.Finish()
	for i, p := range prompts {
		shown.Show(i)
		encoded, err := p.Encode(engine.Tokenizer(), engine.Template())
		if err != nil {
			return mean, err
		}
		a, err := engine.Look(ctx, decode.Lookup{Prompt: encoded.Tokens, Question: encoded.QuestionRows,
			Prefix: encoded.PrefixTokens, Gold: encoded.GoldTokens, Sentence: encoded.SentenceRange, Answer: encoded.AnswerRange})
		if err != nil {
			return mean, fmt.Errorf("prompt %s: %w", p.ID, err)
		}
		if mean.Sentence == nil {
			mean.Sentence, mean.Answer = make([]float64, len(a.Sentence)), make([]float64, len(a.Answer))
		}
		for h := range a.Sentence {
			mean.Sentence[h] += a.Sentence[h] / float64(len(prompts))
			mean.Answer[h] += a.Answer[h] / float64(len(prompts))
		}
	}
	return mean, nil
}

// weightedHead is one KV head and what it weighs.
type weightedHead struct {
	layer, kvHead int
	weight        float32
}

// heaviestFirst are all KV heads by weight.
func heaviestFirst(w heads.Weights) []weightedHead {
	var all []weightedHead
	for layer, row := range w.Weights {
		for kvHead, weight := range row {
			all = append(all, weightedHead{layer, kvHead, weight})
		}
	}
	slices.SortStableFunc(all, func(a, b weightedHead) int { return cmp.Compare(b.weight, a.weight) })
	return all
}

// heaviest lists the heads that vote.
func heaviest(w heads.Weights) string {
	all := heaviestFirst(w)
	voting := all[:cache.Voters(len(all))]
	text := ""
	for _, h := range voting {
		text += fmt.Sprintf("layer %2d, KV head %d: %.3f\n", h.layer, h.kvHead, h.weight)
	}
	return text + fmt.Sprintf("%d of %d KV heads vote; they carry %.0f%% of the weight\n", len(voting), len(all), 100*weightOf(voting)/max(weightOf(all), 1e-9))
}

func weightOf(all []weightedHead) (sum float32) {
	for _, h := range all {
		sum += h.weight
	}
	return sum
}

// plotHeads draws the heads that vote.
func plotHeads(path string, w heads.Weights) error {
	c := eval.Chart{Title: "The heads that find answers, and vote", Unit: "%.2f"}
	all := heaviestFirst(w)
	for _, h := range all[:cache.Voters(len(all))] {
		c.Add(fmt.Sprintf("layer %d, head %d", h.layer, h.kvHead), "weight", float64(h.weight))
	}
	return os.WriteFile(path, []byte(c.SVG()), 0o644)
}
