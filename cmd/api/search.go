package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"lessrag/retrieve"
)

type searchCmd struct {
	Query      string `arg:"" help:"What to look for."`
	Collection string `help:"The collection to search." default:"default"`
	Limit      int    `help:"How many passages." default:"${default_limit}"`
	Widen      int    `help:"Tokens that a place may have: what was found, and what is around it in its section. Default: ${default}." default:"${default_widen}" placeholder:"TOKENS"`
	Mode       string `help:"How to search: ${enum}." enum:"hybrid,vector,lexical" default:"hybrid"`
	JSON       bool   `help:"Print one JSON object like POST /api/v1/search."`
}

// Run searches and prints the passages with their ranks.
func (c *searchCmd) Run(ctx context.Context, g *globals) (err error) {
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openSearch(ctx); err != nil {
		return err
	}
	results, err := s.searcher.Search(ctx, retrieve.Query{
		Text: c.Query, Collection: c.Collection, Limit: c.Limit, Widen: c.Widen, Mode: c.Mode,
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(results)
	}
	for i, p := range results.Passages {
		fmt.Printf("%2d. %s  (score %.4f, vector %s, words %s)\n    %s\n",
			i+1, title(p), p.Score, rank(p.Ranks.Vector), rank(p.Ranks.Lexical), excerpt(p.Text[p.FoundStart-p.Start:p.FoundEnd-p.Start], 160))
	}
	if len(results.Passages) == 0 {
		fmt.Println("nothing found")
	}
	return nil
}

// title is a passage's document and headings on one line.
func title(p retrieve.Passage) string {
	return strings.Join(append([]string{p.Document.Name}, p.HeadingPath...), " › ")
}

func rank(r int) string {
	if r == 0 {
		return "–"
	}
	return fmt.Sprint(r)
}

// excerpt is the beginning of text on one line, at most n runes.
func excerpt(text string, n int) string {
	runes := []rune(strings.Join(strings.Fields(text), " "))
	if len(runes) <= n {
		return string(runes)
	}
	return string(runes[:n-1]) + "…"
}
