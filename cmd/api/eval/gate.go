package eval

import (
	"fmt"
	"io"
	"text/tabwriter"

	"lessrag/decode/passages"
)

// newGate is the means of one share; ratios of times are medians.
func newGate(share float64, tried []BlendTried) passages.Gate {
	gate := passages.Gate{Share: share}
	var ratios []float64
	for _, t := range tried {
		if t.Share != share || t.Memory > 0 {
			continue
		}
		gate.Questions++
		gate.FullF1, gate.BlendF1 = gate.FullF1+t.FullF1, gate.BlendF1+t.BlendF1
		gate.FullNLL, gate.BlendNLL = gate.FullNLL+t.FullNLL, gate.BlendNLL+t.BlendNLL
		ratios = append(ratios, t.FullMS/max(t.BlendMS, 1e-3))
	}
	for _, sum := range []*float64{&gate.FullF1, &gate.BlendF1, &gate.FullNLL, &gate.BlendNLL} {
		*sum /= float64(max(gate.Questions, 1))
	}
	gate.Speedup = median(ratios)
	return gate
}

// Print writes means, and what follows from them.
func (e Blend) Print(w io.Writer, o BlendOptions) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "share\tquestions\tF1 whole\tblended\tagreement\tNLL whole\tblended\tfirst token whole\tblended\tsooner\t")
	for _, g := range e.Gates {
		var agree, full, blend []float64
		for _, r := range e.Tried {
			if r.Share == g.Share && r.Memory == 0 {
				agree, full, blend = append(agree, r.AgreeF1), append(full, r.FullMS), append(blend, r.BlendMS)
			}
		}
		fmt.Fprintf(t, "%.2f\t%d\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.0f ms\t%.0f ms\t%.2f×\t\n", g.Share, g.Questions, g.FullF1, g.BlendF1,
			sum(agree)/float64(max(len(agree), 1)), g.FullNLL, g.BlendNLL, median(full), median(blend), g.Speedup)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, g := range e.Gates {
		fmt.Fprintln(w, g)
	}
	for _, m := range o.Memories {
		var f1, nll, first, kept []float64
		for _, r := range e.Tried {
			if r.Memory == m {
				f1, nll, first = append(f1, r.BlendF1-r.FullF1), append(nll, r.BlendNLL-r.FullNLL), append(first, r.FullMS/r.BlendMS)
				kept = append(kept, float64(r.Bytes)/float64(r.FullBytes))
			}
		}
		n := float64(max(len(f1), 1))
		fmt.Fprintf(w, "memories of %.0f%% (%s): F1 %+.3f, %+.3f nats a token, first token %.1f times sooner, held %.1f%% of a full cache, over %d questions\n",
			100*m, o.Cache, sum(f1)/n, sum(nll)/n, median(first), 100*sum(kept)/n, len(f1))
	}
	if n := e.Novel; n != nil {
		fmt.Fprintf(w, "%d pairs of prompts of new passages: first token after %.0f ms, read plainly %.0f ms; %.3f of the time of all\n", n.Pairs, n.BlendMS, n.PlainMS, n.Ratio)
	}
	return nil
}
