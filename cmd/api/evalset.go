package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"lessrag/cmd/api/eval"
	"lessrag/decode"
	"lessrag/retrieve"
)

// evalSetCmd measures retrieval and answers on questions of one's own.
type evalSetCmd struct {
	Set         string   `arg:"" help:"Questions, one JSON object a line: {\"question\", \"answers\": [texts of which an answer must contain one], \"source\": the document's name or the end of its path, \"section\": text of the place that answers, if not all of the document does}." type:"existingfile"`
	Collections []string `help:"Collections to search: the same documents in chunks of several sizes, say." default:"default" placeholder:"NAME"`
	Modes       []string `help:"Ways to search: hybrid, vector, lexical." default:"hybrid,vector,lexical" placeholder:"MODE"`
	Widen       int      `help:"Tokens that a place may have in the table of retrieval: what was found, and what is around it in its section. Default: ${default}." default:"${default_widen}" placeholder:"TOKENS"`
	Caches      []string `help:"Let the reader answer with each of these caches, as cache or cache@budget; without it only retrieval is measured." placeholder:"CACHE[@BUDGET]"`
	OffTopic    string   `help:"Questions that the documents do not answer, in the same form (only \"question\" is read): find the --min-similarity that refuses them." type:"existingfile" placeholder:"FILE"`
	answerFlags
	Log    string `help:"Keep every finished question in this file and go on from it after an interruption." placeholder:"FILE" type:"path"`
	Report string `help:"Draw the results on a page, an SVG file." placeholder:"FILE" type:"path"`
	JSON   bool   `help:"Print one JSON object."`
}

// Run searches for every question in every way, lets the reader answer where
// asked to, and prints one table of each.
func (c *evalSetCmd) Run(ctx context.Context, g *globals) (err error) {
	questions, err := eval.ReadQuestions(c.Set, true)
	if err != nil {
		return usageError{err}
	}
	var offTopic []retrieve.Expected
	if c.OffTopic != "" {
		if offTopic, err = eval.ReadQuestions(c.OffTopic, false); err != nil {
			return usageError{fmt.Errorf("--off-topic: %w", err)}
		}
	}
	for _, mode := range c.Modes {
		if !slices.Contains([]string{retrieve.Hybrid, retrieve.Vector, retrieve.Lexical}, mode) {
			return usageError{fmt.Errorf("--modes: %q is none of hybrid, vector and lexical", mode)}
		}
	}
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if len(c.Caches) == 0 {
		err = s.openSearch(ctx)
	} else {
		err = s.openAnswers(ctx, decode.Options{CacheMemory: 1 << 30}, c.defaults(c.Collections[0]), answerCacheFlags{Cache: "full"})
	}
	if err != nil {
		return err
	}
	log, err := eval.OpenLog(c.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()

	e, err := eval.MeasureSet(ctx, s.searcher, s.answers, questions, offTopic, eval.SetOptions{
		Collections: c.Collections, Modes: c.Modes, Widen: c.Widen, Caches: c.Caches,
		Limit: c.Limit, ContextTokens: c.ContextTokens, MaxTokens: c.MaxTokens, MinSimilarity: c.MinSimilarity,
	}, log)
	if err != nil {
		return err
	}
	e.Name = c.Set
	if c.Report != "" {
		if err := os.WriteFile(c.Report, []byte(e.Report()), 0o644); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(e)
	}
	return e.Print(os.Stdout)
}
