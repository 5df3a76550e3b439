package eval

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"lessrag/decode"
	"lessrag/decode/recall"
)

// CacheOptions choose what caches are measured on.
type CacheOptions struct {
	Seed    uint64 // of the prompts
	Staging int    // tokens that prompts are staged in; 0: as the service does
	Heads   string // which head weights the engine was opened with
	Against string // count how often each cache is better than this one
	Windows int    // of running text; 0: perplexity is not measured
}

// Caches is how caches compare.
type Caches struct {
	Model      string            `json:"model"`
	Seed       uint64            `json:"seed"`
	Staging    int               `json:"staging"` // 0: as the service does
	Heads      string            `json:"heads"`
	Against    string            `json:"against"`
	Recall     []RecallScore     `json:"recall"`
	Perplexity []PerplexityScore `json:"perplexity,omitempty"`
	Outcomes   []Recalled        `json:"outcomes"`
}

// MeasureCaches lets every cache answer the same prompts and, where asked to, predict the pages.
func MeasureCaches(ctx context.Context, engine *decode.Engine, prompts []recall.Encoded, pages []recall.Page, entries []Entry, o CacheOptions, log *Log) (e Caches, err error) {
	e = Caches{Model: engine.Info().Name, Seed: o.Seed, Staging: o.Staging, Heads: o.Heads, Against: o.Against}
	if e.Outcomes, err = o.recallAll(ctx, engine, prompts, entries, log); err != nil {
		return e, err
	}
	e.Recall = ScoreRecall(e.Outcomes, entries, o.Against)
	e.Perplexity, err = o.perplexity(ctx, engine, pages, entries, log)
	return e, err
}

// Print writes the tables: what is lost to the full cache is a positive loss.
func (e Caches) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "prompts\tlength\tcache\tn\tnats/token\tloss\texact\tlikelier than %s\texact alone\tMiB planned\n", e.Against)
	for _, s := range e.Recall {
		length := "all"
		if s.Length > 0 {
			length = fmt.Sprint(s.Length)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%.3f\t%.3f\t%.0f%%\t%s\t%s\t%.1f\n", s.Kind, length, s.Cache, s.Prompts, s.LogP, s.Loss,
			100*s.Exact, ofThose(s.Better, s.Differ), ofThose(s.Alone, s.OneExact), s.PlanBytes/(1<<20))
	}
	if len(e.Perplexity) > 0 {
		fmt.Fprintf(w, "\ntext\tcache\ttokens\tnats/token\tloss\tperplexity\tMiB planned\n")
		for _, s := range e.Perplexity {
			fmt.Fprintf(w, "held-out pages\t%s\t%d\t%.4f\t%.4f\t%.2f\t%.1f\n", s.Cache, s.Tokens, s.NLL, s.Loss, s.Perplexity, float64(s.Bytes)/(1<<20))
		}
	}
	return w.Flush()
}

// ofThose is a part of the prompts on which two caches differ.
func ofThose(part, all int) string {
	if all == 0 {
		return "-"
	}
	return fmt.Sprintf("%d of %d", part, all)
}

// Plot draws three figures of all prompts together: how likely the true answer
// is under each cache, how often it is given exactly, and how likely it is against the
// bytes of a sequence.
func (e Caches) Plot(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	likely := Chart{Title: "How likely is the true answer? Probability of a token, geometric mean", Unit: "%.2f"}
	exact := Chart{Title: "How often is the answer exact?", Unit: "%.0f%%"}
	for _, s := range e.Recall {
		if s.Length == 0 {
			likely.Add(s.Cache, s.Kind, probability(s.LogP))
			exact.Add(s.Cache, s.Kind, 100*s.Exact)
		}
	}
	for name, svg := range map[string]string{"answers": likely.SVG(), "exact": exact.SVG(), "bytes": scatterOf(e.Outcomes).SVG()} {
		if err := os.WriteFile(plotPath(dir, name), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// plotPath is a figure of the evaluation.
func plotPath(dir, name string) string { return filepath.Join(dir, "cache-"+name+".svg") }
