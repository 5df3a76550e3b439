package teach

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/train"
)

func TestBestGate(t *testing.T) {
	off := 1.0
	for _, c := range []struct {
		name string
		left [][]float64 // errors of budgets by gate
		n    int
		want int
	}{
		{"helps both", [][]float64{{off, .9, .8, .7, .75}, {off, .95, .9, .8, .9}}, 1, 3},
		{"helps on average, harms one", [][]float64{{off, .5, .5, .5, .5}, {off, 1.01, 1.01, 1.01, 1.01}}, 1, 0},
		{"a smaller gate harms none", [][]float64{{off, .9, .8, .7, .7}, {off, .99, 1.02, 1.1, 1.2}}, 1, 1},
		{"means of windows", [][]float64{{2, 1.8, 1.9, 2.1, 2.2}}, 2, 1},
		{"not a number", [][]float64{{off, math.NaN(), math.NaN(), math.NaN(), math.NaN()}}, 1, 0},
	} {
		if got := bestGate(c.left, c.n); got != c.want {
			t.Errorf("%s: gate %v, want %v", c.name, gates[got], gates[c.want])
		}
	}
}

// Where one gate is off, the least of several is.
func TestLeast(t *testing.T) {
	off := gates[0]
	got := Least([][]float32{{0, -1}, {off, 0.4}}, [][]float32{{-0.7, off}, {0, 0.4}})
	if want := [][]float32{{-0.7, off}, {off, 0.4}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Of two gates the one is taken that wins more on texts of the length that was trained at, whatever others say.
func TestSettledOr(t *testing.T) {
	of := func(on int, gain float64, long float64) Settled {
		return Settled{Report: lesskernels.GateReport{On: on, Measured: []lesskernels.GateMeasure{
			{Kind: text, Tokens: 2048, Plain: 3, State: 3 - gain}, {Kind: text, Tokens: 8192, Plain: 3, State: 3 - long}}}}
	}
	for _, c := range []struct {
		name       string
		all, fewer Settled
		want       int
	}{
		{"fewer win more", of(90, 0.02, 0.1), of(51, 0.03, 0), 51},
		{"fewer win less", of(90, 0.02, 0), of(51, 0.01, 0.1), 90},
		{"both the same", of(90, 0.02, 0), of(51, 0.02, 0.1), 90},
		{"fewer are off", of(90, 0.02, 0), Settled{}, 90},
	} {
		if got := c.all.Or(c.fewer, 2048); got.Report.On != c.want {
			t.Errorf("%s: %d states, want %d", c.name, got.Report.On, c.want)
		}
	}
}

func TestExtraTokens(t *testing.T) {
	s := lesskernels.FeatureShape{Rank: 8, HeadDim: 64} // a state of 2,080 bytes, slots of 260
	for on, want := range map[int]int{90: 8, 45: 4, 1: 1, 0: 0} {
		if got := ExtraTokens(s, on, 90); got != want {
			t.Errorf("%d states of 90: %d tokens, want %d", on, got, want)
		}
	}
}

func TestGroupProbes(t *testing.T) {
	h2o, tova := train.Policy{Name: train.H2O, Budget: 8}, train.Policy{Name: train.TOVA, Budget: 8}
	long, short := make([]int32, 90), make([]int32, 40)
	groups := groupProbes(append(append(TextProbes([][]int32{long}, []train.Policy{h2o}), TextProbes([][]int32{short, short}, []train.Policy{h2o, tova})...),
		Probe{Tokens: long, Keep: make([]bool, 80)}))
	var got []string
	for _, g := range groups {
		got = append(got, g.Kind+g.Policy)
	}
	if s := strings.Join(got, " "); s != "needles texth2o texttova texth2o" || len(groups[1].probes) != 2 || groups[3].Tokens != 90 {
		t.Errorf("groups %s, %+v", s, groups)
	}
}

func TestPlot(t *testing.T) {
	off := float32(math.Inf(-1))
	svg := string(Plot([]LayerReport{{Layer: 0, Recovered: map[string]float64{"h2o:128": 0.4}}, {Layer: 1, Recovered: map[string]float64{"h2o:128": -0.1}}},
		[][]float32{{0, off}, {off, off}}))
	if !strings.Contains(svg, "h2o:128") || strings.Count(svg, "#e5e7eb") != 1 || !strings.HasSuffix(svg, "</svg>\n") || strings.Contains(svg, "NaN") {
		t.Errorf("drawing:\n%s", svg)
	}
}
