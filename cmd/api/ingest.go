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
	if bad := outcome.Failed + len(outcome.Refused); err == nil && bad > 0 {
		err = fmt.Errorf("%d of %d files failed", bad, outcome.Total+len(outcome.Refused))
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
	Refused    []refusal         `json:"refused"` // files that never became documents
}

// refusal is a file that was never taken, and why.
type refusal struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// submitAndFollow hands the files over and waits for their documents.
func (c *ingestCmd) submitAndFollow(ctx context.Context, service *ingest.Service, paths []string, report *reporter) (outcome, error) {
	o := outcome{Collection: c.Collection, Refused: []refusal{}}
	var ingestions []string
	for batch := range batches(paths, o.refuse) {
		ids, err := c.submit(ctx, service, batch, &o)
		if err != nil {
			return o, err
		}
		ingestions = append(ingestions, ids...)
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

// submit hands one batch over. A file that is refused costs the others
// nothing: they are submitted one by one then.
func (c *ingestCmd) submit(ctx context.Context, service *ingest.Service, batch []ingest.File, o *outcome) ([]string, error) {
	submission, err := service.Submit(ctx, c.Collection, batch)
	var invalid *ingest.InvalidError
	switch {
	case err == nil:
		for _, d := range submission.Documents {
			switch {
			case d.Duplicate && d.State == ingest.Failed:
				if err := service.Retry(ctx, d.ID); err != nil && !errors.Is(err, ingest.ErrState) {
					return nil, err
				}
			case d.Duplicate:
				o.Duplicates++
			}
		}
		return []string{submission.IngestionID}, nil
	case !errors.As(err, &invalid) || invalid.Field == "collection":
		return nil, err
	case len(batch) == 1:
		o.refuse(batch[0].Name, err)
		return nil, nil
	}
	var ids []string
	for i := range batch {
		more, err := c.submit(ctx, service, batch[i:i+1], o)
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
	}
	return ids, nil
}

func (o *outcome) refuse(name string, reason error) {
	o.Refused = append(o.Refused, refusal{name, reason.Error()})
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
	for _, r := range o.Refused {
		fmt.Fprintf(w, "refused: %q: %s\n", r.Name, r.Reason)
	}
}
