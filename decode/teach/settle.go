package teach

import (
	"cmp"
	"context"
	"slices"

	"lessrag/lesskernels"
	"lessrag/lesskernels/train"
)

// Probe is a text that was not trained on, and how it is read.
type Probe struct {
	Tokens []int32
	From   int           // NLL counts predictions from this position on
	Policy *train.Policy // nil for a needle
	Keep   []bool        // of a needle: what a question leaves of the prompt
}

// The kinds of a GateMeasure.
const (
	text    = "text"
	needles = "needles"
)

// plain is the policy alone with further tokens; what a question leaves gets none.
func (p Probe) plain(extra int) Reading {
	if p.Policy == nil {
		return Reading{Keep: p.Keep}
	}
	return Reading{Policy: &train.Policy{Name: p.Policy.Name, Budget: p.Policy.Budget + extra}}
}

// group is what one GateMeasure averages.
type group struct {
	lesskernels.GateMeasure
	probes []Probe
}

// groupProbes joins probes of one policy and length, and all needles; needles
// come first, then short texts before long ones.
func groupProbes(probes []Probe) []group {
	var groups []group
	for _, p := range probes {
		m := lesskernels.GateMeasure{Kind: needles}
		if p.Policy != nil {
			m = lesskernels.GateMeasure{Kind: text, Policy: p.Policy.Name, Budget: p.Policy.Budget, Tokens: len(p.Tokens)}
		}
		i := slices.IndexFunc(groups, func(g group) bool { return g.GateMeasure == m })
		if i < 0 {
			i, groups = len(groups), append(groups, group{GateMeasure: m})
		}
		groups[i].probes = append(groups[i].probes, p)
	}
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(a.Tokens, b.Tokens) })
	return groups
}

// Settled is a gate, [layers][KV heads], that keeps the promise, and what was measured of it.
type Settled struct {
	Gate   [][]float32
	Report lesskernels.GateReport
}

// Or is the other gate where it wins more at equal bytes on texts of the length that states were trained at.
func (s Settled) Or(other Settled, length int) Settled {
	if other.Report.Gain(length) > s.Report.Gain(length) {
		return other
	}
	return s
}

// shifts of all gates that are tried in turn, before they are switched off.
var shifts = []float32{0, -0.7, -1.5}

// Settle keeps the promise of a policy's gate, never worse than the policy at equal
// bytes: it reads every probe with the policy alone, given the bytes of the states
// as further tokens, and with the states. Where these lose on texts of the length
// that they were trained at, or on needles by more than slack nats, all are made to
// count less, and at last switched off. Where they lose on longer texts, they are
// validated up to the length before.
func (e *Evaluator) Settle(ctx context.Context, gate [][]float32, probes []Probe, length int, slack float64, progress func(format string, values ...any)) (Settled, error) {
	groups := groupProbes(probes)
	extra := ExtraTokens(e.maps[0].FeatureShape, On(gate), e.config.Layers*e.config.KVHeads)
	if On(gate) > 0 {
		for _, shift := range shifts {
			tried := Shifted(gate, shift)
			report, err := e.try(ctx, tried, groups, extra, length, slack, progress)
			if report.Validated > 0 || err != nil {
				return Settled{tried, report}, err
			}
		}
	}
	return Settled{Shifted(gate, gates[0]), lesskernels.GateReport{Validated: length}}, nil
}

// try reads all groups with one gate; it is validated to no length where it loses.
func (e *Evaluator) try(ctx context.Context, gate [][]float32, groups []group, extra, length int, slack float64, progress func(format string, values ...any)) (lesskernels.GateReport, error) {
	report := lesskernels.GateReport{Validated: length, On: On(gate)}
	before := length
	for i := range groups {
		g := &groups[i]
		if err := e.measure(ctx, g, gate, extra); err != nil {
			return lesskernels.GateReport{}, err
		}
		report.Measured = append(report.Measured, g.GateMeasure)
		progress("%s", describe(g.GateMeasure))
		if g.Tokens > report.Validated {
			before, report.Validated = report.Validated, g.Tokens
		}
		allowed := g.Plain
		if g.Kind == needles {
			allowed += slack
		}
		switch won := g.State <= allowed; {
		case !won && g.Tokens > length:
			report.Validated = before
			return report, nil
		case !won:
			return lesskernels.GateReport{}, nil
		}
	}
	return report, nil
}

// measure fills a group's means. What does not depend on the gate is read once.
func (e *Evaluator) measure(ctx context.Context, g *group, gate [][]float32, extra int) error {
	known := g.Sequences > 0
	g.Sequences, g.State = len(g.probes), 0
	add := func(to *float64, p Probe, r Reading) error {
		nll, err := e.NLL(ctx, p.Tokens, p.From, r)
		*to += nll / float64(len(g.probes))
		return err
	}
	for _, p := range g.probes {
		if err := add(&g.State, p, Reading{Policy: p.Policy, Keep: p.Keep, Gate: gate}); err != nil {
			return err
		}
		if known {
			continue
		}
		if err := add(&g.Plain, p, p.plain(extra)); err != nil {
			return err
		}
		dense, err := e.dense(ctx, p)
		if err != nil {
			return err
		}
		g.Dense += dense / float64(len(g.probes))
	}
	return nil
}

// textFrom names predictions of a text.
type textFrom struct {
	first *int32
	from  int
}

// dense reads a probe with all tokens, once for all policies.
func (e *Evaluator) dense(ctx context.Context, p Probe) (float64, error) {
	key := textFrom{&p.Tokens[0], p.From}
	if nll, ok := e.read[key]; ok {
		return nll, nil
	}
	nll, err := e.NLL(ctx, p.Tokens, p.From, Reading{})
	if err == nil {
		e.read[key] = nll
	}
	return nll, err
}
