package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"lessrag/cmd/api/answer"
	"lessrag/decode"
)

type askCmd struct {
	Question   string `arg:"" help:"What to ask."`
	Collection string `help:"The collection to read." default:"default"`
	answerCacheFlags
	answerFlags
	blendFlags
	Temperature float64 `help:"0 takes the likeliest token always." default:"0"`
	Seed        int64   `help:"Seed of the sampler." default:"0"`
	JSON        bool    `help:"Print one JSON object like POST /api/v1/chat."`
}

// Run streams the answer, then lists its sources by number.
func (c *askCmd) Run(ctx context.Context, g *globals) (err error) {
	spec, _, err := c.parse()
	if err != nil {
		return err
	}
	store, err := c.store(g, spec)
	if err != nil {
		return err
	}
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openAnswers(ctx, decode.Options{Passages: store}, c.defaults(c.Collection), c.answerCacheFlags); err != nil {
		return err
	}
	s.answers.BlendMemory = c.BlendMemory
	if s.answers.BlendShare, err = c.share(s.engine.Info()); err != nil {
		return err
	}

	run, err := s.answers.Ask(ctx, answer.Question{Text: c.Question, Temperature: &c.Temperature, Seed: &c.Seed})
	if err != nil {
		return err
	}
	// The run itself ends with ctx; its events are read to the last one.
	err = followRun(run, func(text string) {
		if !c.JSON {
			fmt.Print(text)
		}
	})
	record := run.Record()
	if err == nil && record.FinishReason == answer.FinishCancelled {
		err = errors.New("stopped: the answer is not complete")
	}
	if c.JSON {
		return errors.Join(err, printJSON(record))
	}
	fmt.Println()
	printSources(os.Stdout, record)
	return err
}

// followRun reads a run's events until it has ended, passing its text on.
func followRun(run *answer.Run, text func(string)) error {
	var seen int64
	for {
		events, err := run.Next(context.Background(), seen)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range events {
			seen = e.ID
			switch data := e.Data.(type) {
			case answer.Delta:
				text(data.Text)
			case answer.Failure:
				return errors.New(data.Message)
			}
		}
	}
}

// printSources lists what the answer cites with a sentence of each, or, when it
// cites nothing, what it was read from; then what the memory held.
func printSources(w io.Writer, r answer.Record) {
	cited, quotes := map[int64]bool{}, map[int64]string{}
	for _, c := range r.Citations {
		cited[c.PassageID] = true
		quotes[c.PassageID] = cmp.Or(quotes[c.PassageID], c.Quote)
	}
	if len(r.Passages) > 0 && r.FinishReason != answer.FinishRefused {
		fmt.Fprintln(w, "\nSources:")
		for i, p := range r.Passages {
			if len(cited) == 0 || cited[p.ID] {
				text := excerpt(p.Text, 120)
				if quote := quotes[p.ID]; quote != "" {
					text = "“" + excerpt(quote, 200) + "”"
				}
				fmt.Fprintf(w, "  [%d] %s\n      %s\n", i+1, title(p), text)
			}
		}
	}
	if r.Timing.TTFTMS == 0 { // the reader said nothing
		return
	}
	m := r.Memory
	fmt.Fprintf(w, "\n%d prompt tokens, first token after %.0f ms, %.1f tokens/s; cache %s holds %s of its %s (a full cache: %s)",
		r.Usage.PromptTokens, r.Timing.TTFTMS, r.Timing.TokensPerSecond,
		m.Cache, bytesText(m.HeldBytes), bytesText(m.BudgetBytes), bytesText(m.FullCacheBytes))
	if m.EvictedTokens > 0 {
		fmt.Fprintf(w, "; %d tokens evicted", m.EvictedTokens)
	}
	if m.DroppedPassages > 0 {
		fmt.Fprintf(w, "; %d passages did not fit", m.DroppedPassages)
	}
	fmt.Fprintln(w)
	noteState(w, m.StateNote)
}

// answerFlags shape an answer.
type answerFlags struct {
	Limit         int     `help:"Passages to search for." default:"5"`
	ContextTokens int     `help:"Tokens of passages in the prompt, as far as --limit finds them; 0: what the model's context leaves beside question and answer." default:"1400" placeholder:"TOKENS"`
	MaxTokens     int     `help:"Tokens of the answer at most." default:"256"`
	MinSimilarity float64 `help:"Refuse a question when no passage has this cosine to it or all of its words; api eval --off-topic finds a value for your documents and your embedder." default:"0.3"`
}

func (f answerFlags) defaults(collection string) answer.Defaults {
	return answer.Defaults{
		Collection: collection,
		Limit:      f.Limit, ContextTokens: f.ContextTokens, HistoryTokens: 2 * f.ContextTokens, MaxTokens: f.MaxTokens,
		MinSimilarity: f.MinSimilarity,
	}
}
