package main

import (
	"fmt"
	"strings"
)

// report draws an evaluation on one page: what share of sections is found, by
// collection and mode; what each cache answers; what each threshold refuses.
func (e evaluation) report() string {
	found := chart{title: "Right section among the first 1, 5 and 10 places", unit: "%.3f", most: 1}
	for _, r := range e.Retrieval {
		group := r.Mode
		if e.collections() > 1 {
			group = r.Collection + ", " + r.Mode
		}
		found.add(group, "first", r.Recall1)
		found.add(group, "first five", r.Recall5)
		found.add(group, "first ten", r.Recall10)
	}
	answered := chart{title: "Answers with an expected text, and citations whose passage holds one", unit: "%.3f", most: 1}
	held := chart{title: "Bytes held by an answer, MiB (median)", unit: "%.1f"}
	for _, a := range e.Answers {
		name := a.Cache
		if a.Budget != "" {
			name += "@" + a.Budget
		}
		answered.add(name, "answers", a.Match)
		answered.add(name, "citations", a.CitationPrecision)
		held.add(name, "held", a.HeldBytes/(1<<20))
	}
	refused := chart{title: "Questions refused below a similarity", unit: "%.3f", most: 1}
	for _, r := range e.Refusal {
		group := fmt.Sprintf("%.3f", r.MinSimilarity)
		refused.add(group, "off-topic", r.Refused)
		refused.add(group, "of the set", r.Lost)
	}
	return page(found, answered, held, refused)
}

// collections is how many were searched.
func (e evaluation) collections() int {
	different := map[string]bool{}
	for _, r := range e.Retrieval {
		different[r.Collection] = true
	}
	return len(different)
}

// page puts the charts that have something to show below each other.
func page(charts ...chart) string {
	var b strings.Builder
	y := 0
	for _, c := range charts {
		if len(c.groups) == 0 {
			continue
		}
		_, drawing, _ := strings.Cut(c.svg(), "</style>\n")
		fmt.Fprintf(&b, `<g transform="translate(0 %d)">`+"\n%s</g>\n", y, strings.TrimSuffix(drawing, "</svg>\n"))
		y += c.height()
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="Evaluation">`+"\n<style>%s</style>\n%s</svg>\n",
		chartWidth, y, chartWidth, y, chartStyle, b.String())
}
