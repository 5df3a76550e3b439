package main

import (
	"context"
	"fmt"
	"math"
	"os"

	"lessrag/decode/cache"
	"lessrag/decode/teach"
	"lessrag/lesskernels"
	"lessrag/lesskernels/train"
)

// gate measures what every state is worth on documents that were held out, for each
// policy that can be followed. What a question leaves, and policies that cannot be
// followed, get the least of these gates.
func (c *trainCmd) gate(ctx context.Context, r *teacher, corpus teach.Corpus, policies []train.Policy, m *lesskernels.Maps) error {
	e := teach.NewEvaluator(r.layerwise, r.config, r.pool, m.Layers)
	say("gating every state by the error that it wins back")
	byError, err := e.ByError(ctx, corpus.HeldOut, teach.Distinct(policies), c.Rows)
	if err != nil {
		return err
	}
	hidden := c.needles(r, corpus)
	m.Header.Gates, m.LogScales = nil, nil
	var settled [][][]float32
	validated := math.MaxInt
	for _, p := range c.bases() {
		gate, ok := byError[p.Name]
		if !ok {
			continue // was not trained for
		}
		s, err := c.settle(ctx, e, p, gate, corpus, hidden)
		if err != nil {
			return err
		}
		m.SetGate(p.Name, s.Gate, s.Report)
		if p.Name == train.Sinks {
			m.SetGate(cache.Streaming, s.Gate, s.Report) // it keeps the same tokens
		}
		settled, validated = append(settled, s.Gate), min(validated, s.Report.Validated)
		say("%s: %d of %d states are on, up to %d tokens", p.Name, s.Report.On, r.config.Layers*r.config.KVHeads, s.Report.Validated)
	}
	others, err := e.Settle(ctx, teach.Shifted(teach.Least(settled...), othersShift), hidden, validated, needleSlack, say)
	if err == nil {
		m.SetGate(lesskernels.Others, others.Gate, others.Report)
	}
	return err
}

// settle goes from the gate that a policy's errors suggest to one that holds what it
// promises on whole texts: the better of that gate and of one without the layers without
// whose states texts are more likely.
func (c *trainCmd) settle(ctx context.Context, e *teach.Evaluator, p train.Policy, byError [][]float32, corpus teach.Corpus, hidden []teach.Probe) (teach.Settled, error) {
	half := make([][]int32, min(ablationWindows, len(corpus.HeldOut)))
	for i := range half {
		half[i] = corpus.HeldOut[i][:c.Length/2]
	}
	say("%s: %d states help their layer", p.Name, teach.On(byError))
	byNLL, err := e.ByNLL(ctx, byError, half, p, func(layer int, gain float64) {
		say("%s: the states of layer %d are worth %+.4f nats a token", p.Name, layer, gain)
	})
	if err != nil {
		return teach.Settled{}, err
	}
	say("%s: %d states are left; reading texts with and without", p.Name, teach.On(byNLL))
	probes := append(c.texts(corpus, p), hidden...)
	all, err := e.Settle(ctx, byError, probes, c.Length, needleSlack, say)
	if err != nil || teach.On(byNLL) == teach.On(byError) {
		return all, err
	}
	fewer, err := e.Settle(ctx, byNLL, probes, c.Length, needleSlack, say)
	return all.Or(fewer, c.Length), err
}

func say(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "training: "+format+"\n", values...)
}

// needleSlack is what states may cost an answer that the cache holds, in nats a token.
const needleSlack = 0.02

// othersShift is added to the gates of policies that states were not trained beside. Without it they cost
// vote 0.03 nats a token of what it recalls (126 prompts); on 36 others (api eval cache --seed 2) −0.7, −1.5
// and −2.5 cost 0.01 at most, so the one in the middle was taken.
const othersShift = -1.5

// ablationWindows are read without each layer's states in turn, by half.
const ablationWindows = 3

// bases are the policies that states are judged by.
func (c *trainCmd) bases() []train.Policy {
	budget := min(128, c.Length/8)
	return []train.Policy{{Name: train.H2O, Budget: budget}, {Name: train.TOVA, Budget: budget}, {Name: train.Sinks, Budget: budget}}
}

// texts are held-out windows of the length and of twice and four times that, under a
// policy of the budget that it is judged at and, but for the long ones, of half of that.
func (c *trainCmd) texts(corpus teach.Corpus, p train.Policy) []teach.Probe {
	short := corpus.HeldOut[:min(c.Probes, len(corpus.HeldOut)-1)]
	texts := teach.TextProbes(short, []train.Policy{p, {Name: p.Name, Budget: p.Budget / 2}})
	if c.Long > 0 {
		long := corpus.HeldOut[len(corpus.HeldOut)-1]
		texts = append(texts, teach.TextProbes([][]int32{long[:len(long)/2], long}, []train.Policy{p})...)
	}
	return texts
}

// needles are prompts with a hidden fact.
func (c *trainCmd) needles(r *teacher, corpus teach.Corpus) []teach.Probe {
	var haystacks [][]int32
	for i := range c.Needles {
		w := corpus.HeldOut[i%len(corpus.HeldOut)]
		from := i / len(corpus.HeldOut) * 200 % (len(w) / 2)
		haystacks = append(haystacks, w[from:from+len(w[:c.Length])/2])
	}
	return teach.NeedleProbes(haystacks, r.tokenizer.Encode)
}

// gateTexts are the gates as the report has them.
func gateTexts(m *lesskernels.Maps) map[string][][]string {
	texts := map[string][][]string{}
	for policy, gate := range m.LogScales {
		rows := make([][]string, len(gate))
		for layer, row := range gate {
			for _, g := range row {
				text := "off"
				if !lesskernels.Off(g) {
					text = fmt.Sprintf("%.2g", g)
				}
				rows[layer] = append(rows[layer], text)
			}
		}
		texts[policy] = rows
	}
	return texts
}
