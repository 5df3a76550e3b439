package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Print writes the results as tables for a terminal.
func (r Results) Print(out io.Writer) error {
	fmt.Fprintf(out, "%s, %s, %s kernels, %d threads\n", r.Machine.OS, r.Machine.Processor, r.Machine.Kernels, r.Machine.Threads)
	if r.Model.Name != "" {
		fmt.Fprintln(out, r.Model.Name)
	}
	if r.Limits.ReadGBs > 0 {
		fmt.Fprintf(out, "reads %.1f GB/s; int8 products at most %.0f GOP/s\n", r.Limits.ReadGBs, r.Limits.Int8GOPs)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	if len(r.Rows) > 0 {
		fmt.Fprintln(w, "\nwork\ttokens\tdepth\tbatch\tcache\tvalue\tunit\truns\tof limit\tpeer\tratio\tsame file\t")
	}
	for _, row := range r.Rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t\n", row.Work, row.Tokens, row.Depth, row.Batch, row.CacheText(),
			number(row.Value), row.Unit, row.Runs, row.LimitText(), orDash(row.PeerValue, number), orDash(row.Ratio, times), orDash(row.SameRatio, times))
	}
	if len(r.Steps) > 0 {
		fmt.Fprintln(w, "\nms of a step\tdepth\tanswers\tstage\tms\tshare\t")
	}
	for _, s := range r.Steps {
		for _, stage := range s.Stages {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%.3f\t%s\t\n", s.CacheText(), s.Depth, s.Batch, stage, s.Ms[stage], share(s.Ms[stage]/s.Total()))
		}
	}
	if t := r.Texts; t != nil {
		fmt.Fprintf(w, "\nembedding\ttokens/s\tpeer\tratio\t\nchunks of %d\t%.0f\t%s\t%s\t\n", t.Tokens, t.Value, orDash(t.PeerValue, number), orDash(t.Ratio, times))
	}
	for _, d := range r.Documents {
		fmt.Fprintf(w, "\ndocuments\tfailed\tchunks\ts\tdocuments/s\tchunks/s\tMB/s\tembedding\tagain s\t\n%d\t%d\t%d\t%.1f\t%.1f\t%.1f\t%.3f\t%.1f%%\t%.2f\t\n",
			d.Documents, d.Failed, d.Chunks, d.Seconds, d.DocumentRate(), d.ChunkRate(), d.ByteRate(), 100*d.Share(), d.Again)
		if p := d.Peer; p != nil {
			fmt.Fprintf(w, "\npeer\tchunks\ts\tembedding\tstoring\tratio\tof a chunk\twithout its storing\t\n%s\t%d\t%.1f\t%.1f\t%.1f\t%s\t%s\t%s\t\n",
				p.Name, p.Chunks, p.Seconds, p.Embedding, p.Storing, times(p.Ratio), times(p.ChunkRatio), times(p.PureRatio))
		}
	}
	if a := r.Accuracy; a != nil {
		fmt.Fprintf(w, "\nperplexity\tint8\tfloat32\t\nof %d predictions\t%.4f\t%.4f\t\n", a.Tokens, a.Int8, a.Float32)
	}
	if m := r.Memory; m != nil {
		fmt.Fprintf(w, "\nMB resident\tweights\t%d × %s\tkept heads\tscratch\tunexplained\t\n%s\t%s\t%s\t%s\t%s\t%s\t\n", m.Sequences, withBudget(m.Cache, m.Budget),
			megabytes(m.Resident), megabytes(m.Weights), megabytes(m.Caches), megabytes(m.Kept), megabytes(m.Scratch), megabytes(m.Unexplained))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, g := range r.Goals {
		if _, err := fmt.Fprintf(out, "\n%s %s", mark(g.Reached), g); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(out)
	return err
}

// CacheText is the row's cache with its budget.
func (row Row) CacheText() string { return withBudget(row.Cache, row.Budget) }

// LimitText is the row's share, and of how many GB/s.
func (row Row) LimitText() string {
	if row.ReadGBs == 0 {
		return share(row.OfLimit)
	}
	return share(row.OfLimit) + " of " + number(row.ReadGBs)
}

func withBudget(cache, budget string) string {
	if budget == "" {
		return cache
	}
	return cache + " " + budget
}

func mark(reached bool) string {
	if reached {
		return "✓"
	}
	return "✗"
}

// number shows three digits or more.
func number(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

func times(x float64) string { return fmt.Sprintf("%.2f×", x) }

func share(x float64) string {
	return orDash(x, func(x float64) string { return fmt.Sprintf("%.0f%%", 100*x) })
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f", float64(n)/1e6) }

// orDash is for figures that not every row has: zero stands for none.
func orDash(x float64, text func(float64) string) string {
	if x == 0 {
		return "–"
	}
	return text(x)
}
