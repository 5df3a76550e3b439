package bench

import (
	"bytes"
	"embed"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"text/template"
)

//go:embed pages/*.md
var pageFiles embed.FS

var pageTemplates = template.Must(template.New("").Funcs(template.FuncMap{
	"number": number, "times": func(x float64) string { return orDash(x, times) }, "share": share, "mb": megabytes, "mark": mark,
	"mbs":      func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) },
	"permille": func(x float64) string { return fmt.Sprintf("%.1f%%", 100*x) },
	"peer":     func(x float64) string { return orDash(x, number) },
	"ms":       func(x float64) string { return fmt.Sprintf("%.2f", x) },
}).ParseFS(pageFiles, "pages/*.md"))

// WritePages writes what was measured into a directory of documentation: figures
// against the peer, and where the time of a step goes.
func (r Results) WritePages(dir string) error {
	if len(r.Goals) > 0 {
		if err := r.writePage(dir, "benchmarks", r.ratioFigure()); err != nil {
			return err
		}
	}
	if len(r.Steps) > 0 {
		return r.writePage(dir, "performance", r.stepFigure())
	}
	return nil
}

func (r Results) writePage(dir, name string, f figure) error {
	var page bytes.Buffer
	if err := pageTemplates.ExecuteTemplate(&page, name+".md", r); err != nil {
		return fmt.Errorf("writing %s.md: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".svg"), []byte(f.svg()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".md"), page.Bytes(), 0o644)
}

// ratioFigure draws the goals that are ratios.
func (r Results) ratioFigure() figure {
	f := figure{title: "Measured (bar) and wanted (mark), as ratios"}
	for _, g := range r.Goals {
		if g.Unit == "×" {
			f.bars = append(f.bars, bar{label: g.Name, values: []float64{g.Got}, text: g.Figure(g.Got), mark: g.Want})
		}
	}
	return f
}

// stepFigure draws the stages of a step, one bar for each cache, depth and batch.
func (r Results) stepFigure() figure {
	f := figure{title: "Milliseconds of a decoding step, by stage", parts: r.Steps[0].Stages}
	for _, s := range r.Steps {
		b := bar{label: s.Label(), text: fmt.Sprintf("%.2f ms", s.Total())}
		for _, stage := range s.Stages {
			b.values = append(b.values, s.Ms[stage])
		}
		f.bars = append(f.bars, b)
	}
	return f
}

// StepReads is the bandwidth beside the steps, from the least to the highest.
func (r Results) StepReads() string {
	least, most := math.Inf(1), 0.0
	for _, s := range r.Steps {
		read := s.Limits.or(r.Limits).ReadGBs
		least, most = min(least, read), max(most, read)
	}
	return number(least) + " to " + number(most)
}

// Loud tells whether a row rests on runs that other programs disturbed.
func (r Results) Loud() bool {
	return slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Loud > 0 })
}

// Bound is what limits a stage of a step, and how near it is to that.
type Bound struct {
	Stage string
	Ms    float64
	Share float64 // of the step
	GBs   float64 // that it reads; 0 where it reads next to nothing
	Of    float64 // of the read bandwidth
}

// Bounds are the stages of a step that read memory, products of layers and logits
// together, and the rest.
func (r Results) Bounds(s Step) []Bound {
	bound := func(stage string, ms float64, bytes int64) Bound {
		b := Bound{Stage: stage, Ms: ms, Share: ms / s.Total()}
		if bytes > 0 && ms > 0 {
			b.GBs = float64(bytes) / ms / 1e6
			if limits := s.Limits.or(r.Limits); limits.ReadGBs > 0 {
				b.Of = b.GBs / limits.ReadGBs
			}
		}
		return b
	}
	products, attention := s.Ms["matmul"]+s.Ms["logits"], s.Ms["attention"]
	return []Bound{
		bound("products: layers and logits", products, r.Model.StepBytes),
		bound("attention", attention, s.Held),
		bound("everything else", s.Total()-products-attention, 0),
	}
}
