// Command api answers questions about documents inside a fixed memory budget:
// it ingests them into Postgres, retrieves passages, and reads these with its
// own decoder through a cache of fixed size.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/alecthomas/kong"

	"lessrag/cmd/api/answer"
	"lessrag/cmd/api/eval"
	"lessrag/decode"
	"lessrag/ingest"
	"lessrag/retrieve"
)

// Exit codes: 0 done, 1 failed, 2 used wrongly.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError marks a failure that a better command line would avoid.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// cli is the whole command line. Every flag is also an environment variable
// LESSRAG_…, spelled as in --help.
type cli struct {
	globals

	Serve      serveCmd      `cmd:"" help:"Serve the HTTP API and the page."`
	Ingest     ingestCmd     `cmd:"" help:"Ingest files and directories: extract, chunk, embed, store."`
	Ask        askCmd        `cmd:"" help:"Ask a question; streams the answer, then lists its sources."`
	Compare    compareCmd    `cmd:"" help:"Read the same passages with several caches, and with a remote model; compare the answers."`
	Search     searchCmd     `cmd:"" help:"Search passages and show how each was found."`
	Generate   generateCmd   `cmd:"" help:"Decode from a raw prompt with any cache."`
	Perplexity perplexityCmd `cmd:"" help:"Measure perplexity of a text under a cache and a budget."`
	Eval       evalCmd       `cmd:"" help:"Measure the quality of retrieval, answers and caches."`
	Bench      benchCmd      `cmd:"" help:"Measure prefill and decode speed on this machine."`
	Train      trainCmd      `cmd:"" help:"Train the feature maps of LESS for a model, from documents."`
	Models     modelsCmd     `cmd:"" help:"List and inspect models."`
	Doctor     doctorCmd     `cmd:"" help:"Check this machine and installation; say what to do about each problem."`
}

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	var c cli
	parser := kong.Must(&c,
		kong.Name("api"),
		kong.Description("Answers from all that was retrieved, inside a fixed memory budget.\n\nStart with: api ingest DIR, then api ask \"…\" or api serve."),
		kong.DefaultEnvars("LESSRAG"),
		kong.Vars{
			"caches": caches, "default_cache": defaultCache, "default_budget": defaultBudget, "answer_cache": answerCache, "answer_budget": answerBudget,
			"default_limit": strconv.Itoa(retrieve.DefaultLimit), "default_widen": strconv.Itoa(retrieve.DefaultWiden),
		},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "api: %v\nTry: api --help\n", err)
		return exitUsage
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.level()})))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(&c.globals); err != nil {
		fmt.Fprintf(os.Stderr, "api: %v\n", err)
		if usedWrongly(err) {
			return exitUsage
		}
		return exitFailed
	}
	return 0
}

// usedWrongly tells whether another command line would have helped: every
// package says so by a type of its own.
func usedWrongly(err error) bool {
	var usage usageError
	var question *answer.InvalidError
	var query *retrieve.InvalidError
	var document *ingest.InvalidError
	var evaluation *eval.InvalidError
	var request *decode.InvalidError
	return errors.As(err, &usage) || errors.As(err, &question) || errors.As(err, &query) ||
		errors.As(err, &document) || errors.As(err, &evaluation) || errors.As(err, &request)
}
