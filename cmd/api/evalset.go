package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"lessrag/cmd/api/answer"
	"lessrag/decode"
	"lessrag/retrieve"
)

// evalSetCmd measures retrieval and answers on questions of one's own.
type evalSetCmd struct {
	Set         string   `arg:"" help:"Questions, one JSON object a line: {\"question\", \"answers\": [texts of which an answer must contain one], \"source\": the document's name or the end of its path, \"section\": text of the place that answers, if not all of the document does}." type:"existingfile"`
	Collections []string `help:"Collections to search: the same documents in chunks of several sizes, say." default:"default" placeholder:"NAME"`
	Modes       []string `help:"Ways to search: hybrid, vector, lexical." default:"hybrid,vector,lexical" placeholder:"MODE"`
	Caches      []string `help:"Let the reader answer with each of these caches, as cache or cache@budget; without it only retrieval is measured." placeholder:"CACHE[@BUDGET]"`
	OffTopic    string   `help:"Questions that the documents do not answer, in the same form (only \"question\" is read): find the --min-similarity that refuses them." type:"existingfile" placeholder:"FILE"`
	answerFlags
	Log    string `help:"Keep every finished question in this file and go on from it after an interruption." placeholder:"FILE" type:"path"`
	Report string `help:"Draw the results on a page, an SVG file." placeholder:"FILE" type:"path"`
	JSON   bool   `help:"Print one JSON object."`
}

// evaluation is what --json prints.
type evaluation struct {
	Set       string           `json:"set"`
	Retrieval []retrievalScore `json:"retrieval"`
	Refusal   []refusalScore   `json:"refusal,omitempty"`
	Answers   []answerScore    `json:"answers,omitempty"`
}

// retrievalScore is one way to search one collection.
type retrievalScore struct {
	Collection string `json:"collection"`
	Mode       string `json:"mode"`
	retrieve.RetrievalScores
}

// Run searches for every question in every way, lets the reader answer where
// asked to, and prints one table of each.
func (c *evalSetCmd) Run(ctx context.Context, g *globals) (err error) {
	questions, err := readSet(c.Set, true)
	if err != nil {
		return usageError{err}
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
	log, err := openEvalLog(c.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.close()) }()

	e := evaluation{Set: c.Set}
	if e.Retrieval, err = c.retrieval(ctx, s, questions, log); err != nil {
		return err
	}
	if c.OffTopic != "" {
		if e.Refusal, err = c.refusals(ctx, s, questions, log); err != nil {
			return err
		}
	}
	if len(c.Caches) > 0 {
		if e.Answers, err = c.answers(ctx, s, questions, log); err != nil {
			return err
		}
	}
	if c.Report != "" {
		if err := os.WriteFile(c.Report, []byte(e.report()), 0o644); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(e)
	}
	return e.print(os.Stdout)
}

// retrieval finds the rank of every question's section in every configuration.
func (c *evalSetCmd) retrieval(ctx context.Context, s *stack, questions []retrieve.Expected, log *evalLog) ([]retrievalScore, error) {
	var scores []retrievalScore
	for _, collection := range c.Collections {
		for _, mode := range c.Modes {
			progress := newProgress(os.Stderr, fmt.Sprintf("searching %s, %s", collection, mode), len(questions))
			ranks := make([]int, len(questions))
			for i, q := range questions {
				key := evalKey{Question: q.Question, Source: q.Source, Section: q.Section, Collection: collection, Mode: mode}
				rank, err := remembered(log, key, func() (int, error) {
					found, err := s.searcher.Search(ctx, retrieve.Query{Text: q.Question, Collection: collection, Mode: mode, Limit: retrieve.DefaultLimit})
					return q.Rank(found.Passages), err
				})
				if err != nil {
					return nil, fmt.Errorf("question %d: %w", i+1, err)
				}
				ranks[i] = rank
				progress.show(i + 1)
			}
			progress.finish()
			scores = append(scores, retrievalScore{collection, mode, retrieve.ScoreRanks(ranks)})
		}
	}
	return scores, nil
}

// maxSetLine bounds one question of a set.
const maxSetLine = 1 << 20

// readSet reads a set; an error names the line. Questions that nothing answers
// need no source.
func readSet(path string, needSource bool) ([]retrieve.Expected, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []retrieve.Expected
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, maxSetLine)
	n := 0
	for lines.Scan() {
		if n++; len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var q retrieve.Expected
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		if strings.TrimSpace(q.Question) == "" || needSource && strings.TrimSpace(q.Source) == "" {
			return nil, fmt.Errorf(`%s, line %d: "question" and "source" must not be empty`, path, n)
		}
		all = append(all, q)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s, line %d: %w", path, n+1, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no questions", path)
	}
	return all, nil
}

// readingOf splits cache@budget.
func readingOf(text string) answer.Reading {
	name, budget, _ := strings.Cut(text, "@")
	return answer.Reading{Cache: name, Budget: budget}
}
