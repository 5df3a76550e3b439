package eval

import (
	"fmt"
	"strings"
)

// Report draws an evaluation on one page: what share of sections is found, by
// collection and mode; what each cache answers; what each threshold refuses.
func (e Set) Report() string {
	found := Chart{Title: "Right section among the first 1, 5 and 10 places", Unit: "%.3f", Most: 1}
	for _, r := range e.Retrieval {
		group := r.Mode
		if e.collections() > 1 {
			group = r.Collection + ", " + r.Mode
		}
		found.Add(group, "first", r.Recall1)
		found.Add(group, "first five", r.Recall5)
		found.Add(group, "first ten", r.Recall10)
	}
	answered := Chart{Title: "Answers with an expected text, and citations whose passage holds one", Unit: "%.3f", Most: 1}
	held := Chart{Title: "Bytes held by an answer, MiB (median)", Unit: "%.1f"}
	for _, a := range e.Answers {
		name := a.Cache
		if a.Budget != "" {
			name += "@" + a.Budget
		}
		answered.Add(name, "answers", a.Match)
		answered.Add(name, "citations", a.CitationPrecision)
		held.Add(name, "held", a.HeldBytes/(1<<20))
	}
	refused := Chart{Title: "Questions refused below a similarity", Unit: "%.3f", Most: 1}
	for _, r := range e.Refusal {
		group := fmt.Sprintf("%.3f", r.MinSimilarity)
		refused.Add(group, "off-topic", r.Refused)
		refused.Add(group, "of the set", r.Lost)
	}
	return page(found, answered, held, refused)
}

// collections is how many were searched.
func (e Set) collections() int {
	different := map[string]bool{}
	for _, r := range e.Retrieval {
		different[r.Collection] = true
	}
	return len(different)
}

// page puts the charts that have something to show below each other.
func page(charts ...Chart) string {
	var b strings.Builder
	y := 0
	for _, c := range charts {
		if len(c.groups) == 0 {
			continue
		}
		_, drawing, _ := strings.Cut(c.SVG(), "</style>\n")
		fmt.Fprintf(&b, `<g transform="translate(0 %d)">`+"\n%s</g>\n", y, strings.TrimSuffix(drawing, "</svg>\n"))
		y += c.height()
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="Evaluation">`+"\n<style>%s</style>\n%s</svg>\n",
		chartWidth, y, chartWidth, y, chartStyle, b.String())
}
