package eval

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Chart is a drawing of horizontal bars in groups: a group for every cache, a bar
// for every kind of prompt.
type Chart struct {
	Title  string
	Unit   string  // how a value is printed
	Most   float64 // what the longest bar stands for; 0: the highest value
	groups []string
	kinds  []string
	values map[[2]string]float64 // by group and kind, none below 0
}

// appendNew is list with x, if it is not there.
func appendNew(list []string, x string) []string {
	if slices.Contains(list, x) {
		return list
	}
	return append(list, x)
}

// probability is the geometric mean that a mean log-likelihood stands for.
func probability(logP float64) float64 { return math.Exp(logP) }

// Add draws one bar.
func (c *Chart) Add(group, kind string, value float64) {
	if c.values == nil {
		c.values = map[[2]string]float64{}
	}
	c.groups, c.kinds = appendNew(c.groups, group), appendNew(c.kinds, kind)
	c.values[[2]string{group, kind}] = value
}

// Measures of a chart in pixels.
const (
	chartWidth  = 760
	chartLeft   = 150
	chartRight  = 70
	chartTop    = 64
	chartBar    = 15
	chartSpaced = 12 // between groups
)

// chartStyle follows the reader's scheme, light or dark.
const chartStyle = `text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}.k0{fill:#3b82c4}.k1{fill:#d9822b}.k2{fill:#6f9a3f}` +
	`@media(prefers-color-scheme:dark){text{fill:#e6edf3}}`

// height is that of the drawing.
func (c *Chart) height() int { return chartTop + len(c.groups)*(len(c.kinds)*chartBar+chartSpaced) }

// SVG draws the chart. The same chart is the same bytes.
func (c *Chart) SVG() string {
	highest := c.Most
	for _, value := range c.values {
		highest = max(highest, value)
	}
	scale := float64(chartWidth-chartLeft-chartRight) / max(highest, 1e-9)
	height := c.height()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n<style>%s</style>\n",
		chartWidth, height, chartWidth, height, c.Title, chartStyle)
	fmt.Fprintf(&b, `<text class="title" x="12" y="24">%s</text>`+"\n", c.Title)
	for i, kind := range c.kinds {
		fmt.Fprintf(&b, `<rect class="k%d" x="%d" y="38" width="12" height="12"/><text x="%d" y="49">%s</text>`+"\n", i%3, chartLeft+i*140, chartLeft+17+i*140, kind)
	}
	y := chartTop
	for _, group := range c.groups {
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", chartLeft-8, y+(len(c.kinds)*chartBar)/2+5, html.EscapeString(group))
		for i, kind := range c.kinds {
			value, ok := c.values[[2]string{group, kind}]
			if ok {
				fmt.Fprintf(&b, `<rect class="k%d" x="%d" y="%d" width="%.1f" height="%d"/><text x="%.1f" y="%d">`+c.Unit+"</text>\n",
					i%3, chartLeft, y, value*scale, chartBar-2, chartLeft+value*scale+6, y+chartBar-3, value)
			}
			y += chartBar
		}
		y += chartSpaced
	}
	b.WriteString("</svg>\n")
	return b.String()
}
