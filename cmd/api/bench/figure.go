package bench

import (
	"fmt"
	"html"
	"strings"
)

// figure is a drawing of horizontal bars, each of one part or several.
type figure struct {
	title string
	bars  []bar
	parts []string // the legend, where bars have several parts
}

// bar is one line of a figure.
type bar struct {
	label  string
	values []float64 // lengths of the parts, in the figure's unit
	text   string    // after the bar
	mark   float64   // a value to be reached, 0: none
}

// Measures of a figure in pixels.
const (
	figureWidth = 860
	labelWidth  = 330
	textWidth   = 90
	barHeight   = 18
	barPitch    = 28
	titleHeight = 40
	legendPitch = 22
	footHeight  = 12
)

// palette has a colour for each part, legible on white and on black.
var palette = []string{"#3b82c4", "#d9822b", "#3f9d5a", "#8e63b5", "#c8553d", "#7a8b99", "#b59a1f"}

// style follows the reader's scheme, light or dark.
const style = `text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}.mark,.axis{stroke:#1f2328}` +
	`@media(prefers-color-scheme:dark){text{fill:#e6edf3}.mark,.axis{stroke:#e6edf3}}`

// svg draws the figure. The same figure is the same bytes.
func (f figure) svg() string {
	legend := 0
	if len(f.parts) > 0 {
		legend = legendPitch
	}
	top := titleHeight + legend
	height := top + barPitch*len(f.bars) + footHeight
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n",
		figureWidth, height, figureWidth, height, html.EscapeString(f.title))
	fmt.Fprintf(&b, "<style>%s</style>\n", style)
	fmt.Fprintf(&b, `<text class="title" x="12" y="24">%s</text>`+"\n", html.EscapeString(f.title))
	for i, x := 0, 12; i < len(f.parts); i++ {
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="12" height="12" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			x, titleHeight, palette[i%len(palette)], x+17, titleHeight+11, html.EscapeString(f.parts[i]))
		x += 40 + 8*len(f.parts[i])
	}
	scale := f.scale()
	for i, bar := range f.bars {
		y := top + i*barPitch
		bar.draw(&b, y, scale)
	}
	fmt.Fprintf(&b, `<line class="axis" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n</svg>\n", labelWidth, top-4, labelWidth, height-footHeight)
	return b.String()
}

// scale is the pixels of one unit: the longest bar or mark fills the width.
func (f figure) scale() float64 {
	longest := 0.0
	for _, bar := range f.bars {
		longest = max(longest, bar.mark, sum(bar.values))
	}
	if !(longest > 0) {
		return 0
	}
	return float64(figureWidth-labelWidth-textWidth) / longest
}

func (bar bar) draw(b *strings.Builder, y int, scale float64) {
	middle := y + barHeight/2 + 5
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, labelWidth-8, middle, html.EscapeString(bar.label))
	x := float64(labelWidth)
	for i, value := range bar.values {
		fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`, x, y, value*scale, barHeight, palette[i%len(palette)])
		x += value * scale
	}
	if bar.mark > 0 {
		at := labelWidth + bar.mark*scale
		fmt.Fprintf(b, `<line class="mark" x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke-width="2"/>`, at, y-3, at, y+barHeight+3)
		x = max(x, at)
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", x+7, middle, html.EscapeString(bar.text))
}

func sum(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}
