package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"lessrag/ingest"
)

type ingestCmd struct {
	Paths      []string `arg:"" optional:"" name:"path" help:"Files, directories, archives, and with --allow-urls addresses of pages."`
	Collection string   `help:"The collection that takes them; made when it is new." default:"default"`
	JSON       bool     `help:"Print one JSON object with every document's outcome."`
	DryRun     bool     `help:"Print what would be taken, and take nothing."`
	Mirror     bool     `help:"Remove the documents of files that are gone from the directories."`
	Watch      bool     `help:"Stay, and follow what changes and goes in the directories."`
	URLList    string   `name:"url-list" help:"A file with addresses, one a line; needs --allow-urls." placeholder:"FILE"`
	AllowURLs  bool     `name:"allow-urls" help:"Fetch pages from the web, from public addresses only."`
	selection
}

// Run reads the paths, submits their files in batches, works the jobs, and
// reports until every document is ready or failed.
func (c *ingestCmd) Run(ctx context.Context, g *globals) (err error) {
	urls, err := c.addresses()
	if err != nil {
		return err
	}
	found, err := c.walk(c.Paths)
	if err != nil {
		return err
	}
	if c.DryRun {
		return c.list(os.Stdout, found, urls)
	}
	if len(found.paths)+len(urls) == 0 && !c.Mirror && !c.Watch {
		return fmt.Errorf("no document in %v", c.Paths)
	}
	s := &stack{globals: g}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openIngestion(ctx); err != nil {
		return err
	}

	started := time.Now()
	report := newReporter(os.Stderr, len(found.paths)+len(urls))
	outcome, err := c.submitAndFollow(ctx, s.ingestion, append(fileSources(found.paths), urlSources(ctx, urls)...), report)
	report.finish()
	if err != nil {
		return err
	}
	if c.Mirror {
		if outcome.Removed, err = mirror(ctx, s.ingestion, c.Collection, found); err != nil {
			return err
		}
	}
	if err := s.ingestion.Index(ctx); err != nil {
		return err
	}
	outcome.Skipped, outcome.Seconds, outcome.Embedding = found.skipped, time.Since(started).Seconds(), s.ingestion.Embedding().Seconds()
	if c.JSON {
		err = printJSON(outcome)
	} else {
		outcome.print(os.Stdout)
	}
	if err == nil && c.Watch {
		return c.watch(ctx, s.ingestion, found)
	}
	if bad := outcome.Failed + len(outcome.Refused); err == nil && bad > 0 {
		err = fmt.Errorf("%d of %d files failed", bad, outcome.Total+len(outcome.Refused))
	}
	return err
}

// addresses takes the web addresses out of the paths and the list, and checks that the flags fit together.
func (c *ingestCmd) addresses() (urls []string, err error) {
	var paths []string
	for _, p := range c.Paths {
		if isURL(p) {
			urls = append(urls, p)
		} else {
			paths = append(paths, p)
		}
	}
	c.Paths = paths
	if c.URLList != "" {
		listed, err := readURLs(c.URLList)
		if err != nil {
			return nil, err
		}
		urls = append(urls, listed...)
	}
	switch {
	case len(urls) > 0 && !c.AllowURLs:
		return nil, usageError{fmt.Errorf("%s is on the web: pages are fetched only with --allow-urls", urls[0])}
	case len(urls)+len(paths) == 0:
		return nil, usageError{errors.New("name files, directories or archives, or a --url-list")}
	case c.Watch && c.JSON:
		return nil, usageError{errors.New("--watch goes on, --json prints one object: choose one")}
	case (c.Watch || c.Mirror) && len(paths) == 0:
		return nil, usageError{errors.New("--watch and --mirror need a directory")}
	}
	return urls, c.check()
}

// list prints what would be taken.
func (c *ingestCmd) list(w io.Writer, f found, urls []string) error {
	all := append(slices.Clone(f.paths), urls...)
	if c.JSON {
		return printJSON(struct {
			Collection string   `json:"collection"`
			Files      []string `json:"files"`
			Skipped    int      `json:"skipped"`
		}{c.Collection, append([]string{}, all...), f.skipped})
	}
	for _, path := range all {
		fmt.Fprintln(w, path)
	}
	_, err := fmt.Fprintf(w, "%d would be taken into collection %q, %d files skipped\n", len(all), c.Collection, f.skipped)
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
	Removed    int               `json:"removed"` // by --mirror
	Chunks     int               `json:"chunks"`
	Bytes      int64             `json:"bytes"` // as handed in
	Seconds    float64           `json:"seconds"`
	Embedding  float64           `json:"embed_seconds"` // of them in the embedder's forward
	Documents  []ingest.Document `json:"documents"`
	Refused    []refusal         `json:"refused"` // files that never became documents
}

// refusal is a file that was never taken, and why.
type refusal struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// submitAndFollow hands the files over and waits for their documents.
func (c *ingestCmd) submitAndFollow(ctx context.Context, service *ingest.Service, sources []source, report *reporter) (outcome, error) {
	o := outcome{Collection: c.Collection, Refused: []refusal{}}
	var ingestions []string
	for batch := range batches(sources, o.refuse) {
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
		p, err := ask(ctx, service, id)
		if err != nil {
			return o, err
		}
		o.Total, o.Ready, o.Failed = o.Total+p.Total, o.Ready+p.Ready, o.Failed+p.Failed
		for _, d := range p.Documents {
			o.Chunks, o.Bytes = o.Chunks+d.Chunks, o.Bytes+d.Bytes
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
	ended := map[string]status{} // ingestions with nothing pending are not asked again
	for {
		var now status
		for _, id := range ids {
			one, ok := ended[id]
			if !ok {
				p, err := ask(ctx, service, id)
				if err != nil {
					return err
				}
				if one = statusOf(p); one.pending == 0 {
					ended[id] = one
				}
			}
			now = now.plus(one)
		}
		report.show(now)
		if now.pending == 0 || !wait {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped with %d documents still queued; they go on when a service or `api ingest` runs: %w", now.pending, ctx.Err())
		case <-time.After(lookEvery):
		}
	}
}

const (
	// lookEvery is how often documents are looked at that are being worked on.
	lookEvery = 200 * time.Millisecond
	// patience is how long the database may be away meanwhile: it is started again after a crash, and nothing is lost.
	patience = time.Minute
)

// ask reads how far an ingestion has come, and waits for a database that is away.
func ask(ctx context.Context, service *ingest.Service, id string) (ingest.Progress, error) {
	for began := time.Now(); ; {
		p, err := service.Ingestion(ctx, id)
		if err == nil || ctx.Err() != nil || errors.Is(err, ingest.ErrNotFound) || time.Since(began) > patience {
			return p, err
		}
		time.Sleep(lookEvery)
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
	if o.Removed > 0 {
		fmt.Fprintf(w, "%d were removed, their files are gone\n", o.Removed)
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
