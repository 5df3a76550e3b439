package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// scatter is a drawing of caches by what a sequence takes and how well it answers.
type scatter struct {
	title  string
	points []scatterPoint
}

type scatterPoint struct {
	name         string
	bytes, value float64 // value from 0 to 1
}

// scatterOf is how likely a token of the true answer is under each cache, prompts of
// all kinds together, against the mean bytes of a sequence.
func scatterOf(outcomes []Recalled) scatter {
	s := scatter{title: "What do the bytes of a sequence buy? Probability of a token of the true answer"}
	type sums struct{ n, logP, bytes float64 }
	all := map[string]*sums{}
	var names []string
	for _, o := range outcomes {
		if all[o.Cache] == nil {
			all[o.Cache] = &sums{}
			names = append(names, o.Cache)
		}
		x := all[o.Cache]
		x.n, x.logP, x.bytes = x.n+1, x.logP+o.LogP, x.bytes+float64(o.PlanBytes)
	}
	for _, name := range names {
		x := all[name]
		s.points = append(s.points, scatterPoint{name, x.bytes / x.n, probability(x.logP / x.n)})
	}
	return s
}

// Measures of a scatter in pixels.
const (
	scatterWidth  = 860
	scatterHeight = 560
	scatterLeft   = 60
	scatterRight  = 180 // for names
	scatterTop    = 50
	scatterBottom = 46
	scatterLine   = 14 // names are no closer
)

// SVG draws bytes to the right on a logarithmic scale, and quality upwards. Names that
// would overlap are pushed down, with a line to their point.
func (s scatter) SVG() string {
	low, high := math.Inf(1), 0.0
	for _, p := range s.points {
		low, high = min(low, p.bytes), max(high, p.bytes)
	}
	low, high = math.Log(low/1.2), math.Log(high*1.2)
	x := func(bytes float64) float64 {
		return scatterLeft + (math.Log(bytes)-low)/max(high-low, 1e-9)*(scatterWidth-scatterLeft-scatterRight)
	}
	y := func(value float64) float64 { return scatterTop + (1-value)*(scatterHeight-scatterTop-scatterBottom) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n<style>%s.grid{stroke:#8884;stroke-width:1}.lead{stroke:#8888;stroke-width:.7}</style>\n",
		scatterWidth, scatterHeight, scatterWidth, scatterHeight, s.title, chartStyle)
	fmt.Fprintf(&b, `<text class="title" x="12" y="24">%s</text>`+"\n", s.title)
	for tick := 0.0; tick <= 1; tick += 0.25 {
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%.2f</text>`+"\n",
			scatterLeft, scatterWidth-scatterRight, y(tick), y(tick), scatterLeft-8, y(tick)+4, tick)
	}
	for mib := 1.0; mib <= 1<<20; mib *= 2 {
		if at := mib * (1 << 20); math.Log(at) >= low && math.Log(at) <= high {
			fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text x="%.1f" y="%d" text-anchor="middle">%.0f MiB</text>`+"\n",
				x(at), x(at), scatterTop, scatterHeight-scatterBottom, x(at), scatterHeight-scatterBottom+18, mib)
		}
	}
	points := slices.Clone(s.points)
	slices.SortStableFunc(points, func(p, q scatterPoint) int { return cmp.Compare(q.value, p.value) })
	type label struct{ x, y float64 }
	var labels []label
	for _, p := range points {
		at := label{x(p.bytes) + 12, y(p.value) + 4}
		for slices.ContainsFunc(labels, func(l label) bool {
			return math.Abs(l.x-at.x) < scatterRight && math.Abs(l.y-at.y) < scatterLine
		}) {
			at.y++
		}
		labels = append(labels, at)
		fmt.Fprintf(&b, `<line class="lead" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/><circle class="k0" cx="%.1f" cy="%.1f" r="4"/><text x="%.1f" y="%.1f">%s</text>`+"\n",
			x(p.bytes), y(p.value), at.x-2, at.y-4, x(p.bytes), y(p.value), at.x, at.y, p.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
