package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"lessrag/cmd/api/answer"
	"lessrag/cmd/api/eval"
	"lessrag/decode"
)

type compareCmd struct {
	Question   string `arg:"" help:"What to ask."`
	Collection string `help:"The collection to read." default:"default"`
	answerCacheFlags
	Caches []string `help:"Caches to compare, each cache or cache@budget, such as sinks@10%. Default: --cache with its --budget, and full." placeholder:"CACHE[@BUDGET]"`
	Local  bool     `help:"Leave the remote model out, though one is configured (LESSRAG_REMOTE_URL, LESSRAG_REMOTE_MODEL, LESSRAG_REMOTE_KEY)."`
	answerFlags
	Temperature float64 `help:"0 takes the likeliest token always." default:"0"`
	Seed        int64   `help:"Seed of the sampler." default:"0"`
	JSON        bool    `help:"Print one JSON object like POST /api/v1/compare."`
}

// Run prints every answer as it ends, then one table of what each took.
func (c *compareCmd) Run(ctx context.Context, g *globals) (err error) {
	if _, _, err := c.parse(); err != nil {
		return err
	}
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openAnswers(ctx, decode.Options{}, c.defaults(c.Collection), c.answerCacheFlags); err != nil {
		return err
	}
	comparison, err := s.answers.Compare(ctx,
		answer.Question{Text: c.Question, Temperature: &c.Temperature, Seed: &c.Seed},
		c.readings(s.answers), func(column answer.Column) {
			if !c.JSON {
				printColumn(os.Stdout, column)
			}
		})
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(comparison)
	} else {
		err = printComparison(os.Stdout, comparison)
	}
	return errors.Join(err, failedColumns(comparison))
}

// readings are the columns that the flags ask for.
func (c *compareCmd) readings(s *answer.Service) []answer.Reading {
	var all []answer.Reading
	for _, text := range c.Caches {
		all = append(all, eval.ReadingOf(text))
	}
	for _, r := range s.Readings() {
		if r.Remote && !c.Local || !r.Remote && len(c.Caches) == 0 {
			all = append(all, r)
		}
	}
	return all
}

func columnName(c answer.Column) string {
	if c.Remote {
		return c.Reader + " (remote)"
	}
	return c.Memory.Cache + " " + bytesText(c.Memory.BudgetBytes)
}

func printColumn(w io.Writer, c answer.Column) {
	fmt.Fprintf(w, "── %s\n", columnName(c))
	if c.Error != nil {
		fmt.Fprintf(w, "failed: %s\n\n", c.Error.Message)
		return
	}
	fmt.Fprintf(w, "%s\n\n", strings.TrimSpace(c.Answer))
}

// printComparison is the table of what each reading took. An answer that was
// refused has not been printed yet.
func printComparison(w io.Writer, c answer.Comparison) error {
	if len(c.Columns) > 0 && c.Columns[0].FinishReason == answer.FinishRefused {
		fmt.Fprintln(w, c.Columns[0].Answer)
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "reading\tfirst token\ttokens/s\tprompt\tanswer\theld\tfull cache\tcost\t")
	for _, column := range c.Columns {
		held, full, cost := "–", "–", "–"
		if !column.Remote {
			held, full = bytesText(column.Memory.HeldBytes), bytesText(column.Memory.FullCacheBytes)
		}
		if column.Cost != nil {
			cost = fmt.Sprintf("%.6f", *column.Cost)
		}
		fmt.Fprintf(t, "%s\t%.0f ms\t%.1f\t%d\t%d\t%s\t%s\t%s\t\n", columnName(column), column.Timing.TTFTMS,
			column.Timing.TokensPerSecond, column.Usage.PromptTokens, column.Usage.CompletionTokens, held, full, cost)
	}
	return t.Flush()
}

// failedColumns is an error that names the readings that failed.
func failedColumns(c answer.Comparison) error {
	var errs []error
	for _, column := range c.Columns {
		if column.Error != nil {
			errs = append(errs, fmt.Errorf("%s: %s", columnName(column), column.Error.Message))
		}
	}
	return errors.Join(errs...)
}
