package bench

import (
	"fmt"
	"math"
	"slices"
)

// Goal is a figure that the engine has to reach, and the one that was measured.
type Goal struct {
	Name    string  `json:"name"`
	Want    float64 `json:"want"`
	Most    bool    `json:"most,omitempty"` // Want is the most, not the least
	Got     float64 `json:"got"`
	Unit    string  `json:"unit"` // "×", "%", "MB" or "ms"
	Reached bool    `json:"reached"`
}

// String is the goal as a sentence of a table.
func (g Goal) String() string {
	return fmt.Sprintf("%s: %s, %s wanted", g.Name, g.Figure(g.Got), g.Bar())
}

// Bar is what is wanted.
func (g Goal) Bar() string {
	if g.Most {
		return "≤ " + g.Figure(g.Want)
	}
	return "≥ " + g.Figure(g.Want)
}

// Figure is a value in the goal's unit.
func (g Goal) Figure(x float64) string {
	switch g.Unit {
	case "%":
		if x < 0.1 {
			return fmt.Sprintf("%.2f%%", 100*x)
		}
		return fmt.Sprintf("%.0f%%", 100*x)
	case "MB", "ms":
		return fmt.Sprintf("%.0f %s", x, g.Unit)
	}
	return fmt.Sprintf("%.2f×", x)
}

// goals compares what was measured with what is wanted; what was not measured is
// left out.
func goals(r *Results) []Goal {
	var list []Goal
	add := func(name string, want float64, unit string, got float64) {
		if !math.IsNaN(got) && got != 0 {
			list = append(list, Goal{Name: name, Want: want, Got: got, Unit: unit, Reached: got >= want})
		}
	}
	row := func(work string, prompt, batch int, bounded bool) Row {
		for _, row := range r.Rows {
			at := row.Depth
			if work == "prefill" || work == "ttft" {
				at = row.Tokens
			}
			if row.Work == work && at == prompt && row.Batch == batch && (row.Cache != "full") == bounded {
				return row
			}
		}
		return Row{Value: math.NaN()}
	}
	deep := r.deepest()

	short := row("decode", 0, 1, false)
	boundedShort, boundedDeep := row("decode", 0, 1, true), row("decode", deep, 1, true)
	add("prefill of 512 tokens against llama.cpp", 1.5, "×", row("prefill", 512, 1, false).Ratio)
	add("prefill of 512 tokens against llama.cpp on the same file", 3.5, "×", row("prefill", 512, 1, false).SameRatio)
	add(fmt.Sprintf("prefill of %d tokens, full, against llama.cpp", deep), 2.5, "×", row("prefill", deep, 1, false).Ratio)
	add("decode at depth 0 against llama.cpp", 1.3, "×", short.Ratio)
	add("decode at depth 0, of the read bandwidth", 0.7, "%", short.OfLimit)
	add(fmt.Sprintf("decode at depth %d, full, against llama.cpp", deep), 1.5, "×", row("decode", deep, 1, false).Ratio)
	add(fmt.Sprintf("decode at depth %d, %s %s, against llama.cpp's full", deep, boundedDeep.Cache, boundedDeep.Budget), 6, "×", boundedDeep.Ratio)
	add("the same against our own at depth 0", 0.85, "×", inTurn(boundedDeep, boundedShort))
	first := row("ttft", deep, 1, true)
	add(fmt.Sprintf("first token of %d, %s %s, against llama.cpp's full", deep, first.Cache, first.Budget), 7, "×", first.Ratio)
	add("decode of 8 answers together against one", 3.5, "×", inTurn(row("decode", 0, 8, false), short))
	kept := row("kept", 0, 1, false)
	add(fmt.Sprintf("speed kept beside %d busy processes", kept.Busy), 1./3, "%", kept.Value)
	if r.Texts != nil {
		add(fmt.Sprintf("embedding of chunks of %d tokens against onnxruntime", r.Texts.Tokens), 1.5, "×", r.Texts.Ratio)
	}
	for _, d := range r.Documents {
		if d.Peer != nil {
			add(fmt.Sprintf("%d documents taken in against a plain pipeline in Python", d.Documents), 2, "×", d.Peer.Ratio)
		} else {
			add(fmt.Sprintf("time of %d documents in which the embedder computes", d.Documents), 0.9, "%", d.Share())
		}
	}
	most := func(name string, want, got float64, unit string) {
		list = append(list, Goal{Name: name, Want: want, Most: true, Got: got, Unit: unit, Reached: got <= want})
	}
	if r.Accuracy != nil {
		most("perplexity of int8 products above that of float32", 0.003, r.Accuracy.Excess, "%")
	}
	if r.LoadMs > 0 {
		most("load of the model", 500, r.LoadMs, "ms")
	}
	if r.Memory != nil {
		most("resident memory that is not weights, caches or scratch", 120, float64(r.Memory.Unexplained)/1e6, "MB")
	}
	return list
}

// inTurn is the ratio of two rows of decoding: of the medians of the runs of those sessions that have both, which took
// turns; of all where no session has. A machine is not the same in another session.
func inTurn(a, b Row) float64 {
	beside := func(m, other Measured) (rates []float64) {
		for _, t := range quietest(m.Timings) {
			if slices.ContainsFunc(other.Timings, func(o Timing) bool { return o.session == t.session }) {
				rates = append(rates, m.Work.Decode(t))
			}
		}
		return rates
	}
	x, y := beside(a.measured, b.measured), beside(b.measured, a.measured)
	if len(x) == 0 || len(y) == 0 {
		return a.Value / b.Value
	}
	return median(x) / median(y)
}

// deepest is the longest prompt that was measured.
func (r *Results) deepest() int {
	deep := 0
	for _, row := range r.Rows {
		deep = max(deep, row.Depth)
	}
	return deep
}
