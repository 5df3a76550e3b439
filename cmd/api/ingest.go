package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"lessrag/ingest"
)

// A batch of files is submitted at once; whichever bound comes first ends it.
const (
	batchFiles = 64
	batchBytes = 16 << 20
)

type ingestCmd struct {
	Paths      []string `arg:"" name:"path" help:"Files and directories: Markdown, plain text, HTML."`
	Collection string   `help:"The collection that takes them; made when it is new." default:"default"`
	JSON       bool     `help:"Print one JSON object with every document's outcome."`
}

// Run reads the paths, submits their files in batches, works the jobs, and
// reports until every document is ready or failed.
func (c *ingestCmd) Run(ctx context.Context, g *globals) (err error) {
	found, err := walk(c.Paths)
	if err != nil {
		return err
	}
	if len(found.paths) == 0 {
		return fmt.Errorf("no Markdown, text or HTML file in %v", c.Paths)
	}
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openIngestion(ctx); err != nil {
		return err
	}

	started := time.Now()
	report := newReporter(os.Stderr, len(found.paths))
	outcome, err := c.submitAndFollow(ctx, s.ingestion, found.paths, report)
	report.finish()
	if err != nil {
		return err
	}
	outcome.Skipped, outcome.Seconds = found.skipped, time.Since(started).Seconds()
	if c.JSON {
		err = printJSON(outcome)
	} else {
		outcome.print(os.Stdout)
	}
	if err == nil && outcome.Failed > 0 {
		err = fmt.Errorf("%d of %d documents failed", outcome.Failed, outcome.Total)
	}
	return err
}

// outcome is what became of the files, and what --json prints.
type outcome struct {
	Collection string            `json:"collection"`
	Total      int               `json:"total"`
	Ready      int               `json:"ready"`
	Failed     int               `json:"failed"`
	Duplicates int               `json:"duplicates"`
	Skipped    int               `json:"skipped"`
	Chunks     int               `json:"chunks"`
	Seconds    float64           `json:"seconds"`
	Documents  []ingest.Document `json:"documents"`
}

// submitAndFollow hands the files over and waits for their documents.
func (c *ingestCmd) submitAndFollow(ctx context.Context, service *ingest.Service, paths []string, report *reporter) (outcome, error) {
	o := outcome{Collection: c.Collection}
	var ingestions []string
	for batch, err := range batches(paths) {
		if err != nil {
			return o, err
		}
		submission, err := service.Submit(ctx, c.Collection, batch)
		if err != nil {
			return o, fmt.Errorf("submitting %s and %d more: %w", batch[0].Name, len(batch)-1, err)
		}
		ingestions = append(ingestions, submission.IngestionID)
		for _, d := range submission.Documents {
			if d.Duplicate {
				o.Duplicates++
			}
		}
		if err := follow(ctx, service, ingestions, report, false); err != nil {
			return o, err
		}
	}
	if err := follow(ctx, service, ingestions, report, true); err != nil {
		return o, err
	}
	for _, id := range ingestions {
		p, err := service.Ingestion(ctx, id)
		if err != nil {
			return o, err
		}
		o.Total, o.Ready, o.Failed = o.Total+p.Total, o.Ready+p.Ready, o.Failed+p.Failed
		for _, d := range p.Documents {
			o.Chunks += d.Chunks
		}
		o.Documents = append(o.Documents, p.Documents...)
	}
	return o, nil
}

// follow shows the progress of the ingestions; with wait, until none is pending.
func follow(ctx context.Context, service *ingest.Service, ids []string, report *reporter, wait bool) error {
	for {
		pending, done, failed := 0, 0, 0
		for _, id := range ids {
			p, err := service.Ingestion(ctx, id)
			if err != nil {
				return err
			}
			pending, done, failed = pending+p.Pending, done+p.Ready+p.Failed, failed+p.Failed
		}
		report.show(done, failed)
		if pending == 0 || !wait {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped with %d documents still queued; they go on when a service or `api ingest` runs: %w", pending, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// print summarises, failures last: what is read last is remembered.
func (o outcome) print(w io.Writer) {
	fmt.Fprintf(w, "%d ready, %d failed in collection %q; %d chunks, %.1f s\n", o.Ready, o.Failed, o.Collection, o.Chunks, o.Seconds)
	if o.Duplicates > 0 {
		fmt.Fprintf(w, "%d were there already, unchanged\n", o.Duplicates)
	}
	if o.Skipped > 0 {
		fmt.Fprintf(w, "%d files of other types were skipped\n", o.Skipped)
	}
	for _, d := range o.Documents {
		if d.State == "failed" {
			fmt.Fprintf(w, "failed: %s, while %s: %s\n", d.Name, d.Stage, d.Error)
		}
	}
}
