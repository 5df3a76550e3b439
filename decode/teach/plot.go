package teach

import (
	"bytes"
	"fmt"
	"slices"
)

// The drawing's sizes, in pixels.
const (
	plotWidth, plotHeight = 720, 320
	plotLeft, plotTop     = 48, 40
	plotRight, plotBottom = 130, 44
)

var plotColours = []string{"#1b6ca8", "#c8553d", "#3a7d44", "#8d5a97", "#b8860b", "#4b5563"}

// Plot draws, for every layer, the share of each policy's error on held-out
// windows that the state wins back; layers without a state are shaded.
func Plot(layers []LayerReport, gate [][]float32) []byte {
	var names []string
	most := 0.1
	for _, l := range layers {
		for name, x := range l.Recovered {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			most = max(most, x)
		}
	}
	slices.Sort(names)
	step := float64(plotWidth-plotLeft-plotRight) / float64(max(1, len(layers)))
	height := float64(plotHeight - plotTop - plotBottom)
	x := func(layer int) float64 { return plotLeft + (float64(layer)+0.5)*step }
	y := func(share float64) float64 { return plotTop + height*(1-max(0, share)/most) }

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/><text x="%d" y="20" font-size="13">Attention error that the state wins back, by layer</text>`+"\n", plotWidth, plotHeight, plotLeft)
	for layer := range layers {
		if layer < len(gate) && allOff(gate[layer]) {
			fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%.1f" fill="#e5e7eb"/>`+"\n", x(layer)-step/2, plotTop, step, height)
		}
	}
	for i := range 5 {
		share := most * float64(i) / 4
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#d1d5db"/><text x="%d" y="%.1f" text-anchor="end">%.0f%%</text>`+"\n",
			plotLeft, plotWidth-plotRight, y(share), y(share), plotLeft-6, y(share)+4, 100*share)
	}
	for layer := 0; layer < len(layers); layer += 5 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(layer), plotHeight-plotBottom+16, layers[layer].Layer)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">layer (shaded: the gate has switched it off)</text>`+"\n", plotLeft, plotHeight-8)
	for i, name := range names {
		colour := plotColours[i%len(plotColours)]
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.6" points="`, colour)
		for layer, l := range layers {
			if share, ok := l.Recovered[name]; ok {
				fmt.Fprintf(&b, "%.1f,%.1f ", x(layer), y(share))
			}
		}
		fmt.Fprintf(&b, `"/><text x="%d" y="%d" fill="%s">%s</text>`+"\n", plotWidth-plotRight+10, plotTop+14*(i+1), colour, name)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
