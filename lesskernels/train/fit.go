package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"lessrag/lesskernels"
)

// Options of Fit. The zero value of none is useful: see Recipe.
type Options struct {
	Epochs   int
	Rate     float64 // highest learning rate
	WarmUp   int     // steps
	Clip     float64 // norm of a gradient
	Patience int     // epochs without a better held-out error, after which Fit stops
	Fading   bool    // features fade with time, at rates that are learned
	Seed     uint64
}

// Recipe is what was found best on SmolLM2-135M: see docs/less.md.
var Recipe = Options{Epochs: 8, Rate: 7e-3, WarmUp: 20, Clip: 1, Patience: 3, Fading: true, Seed: 1}

// Fitted is a layer's map and how well it does.
type Fitted struct {
	Map       *lesskernels.FeatureMap
	Train     float64   // error left, as a share of the policy's alone
	HeldOut   []float64 // the same of each held-out sample
	Epochs    int       // run
	BestEpoch int       // from 1: the one that Map comes from
}

// Recovered is the mean share of the policy's error that the state wins back on
// held-out samples.
func (f *Fitted) Recovered() float64 {
	sum := 0.0
	for _, x := range f.HeldOut {
		sum += 1 - x
	}
	return sum / float64(len(f.HeldOut))
}

// Fit trains the feature map of one layer. The loss of a sample is its error
// after the output projection over that of its policy alone: a policy that loses
// much counts no more than one that loses little. The map of
// the epoch with the lowest held-out error is returned. The error is ctx's, or
// tells that the samples hold nothing to learn.
func Fit(ctx context.Context, shape lesskernels.FeatureShape, m *Metric, samples, heldOut []*Sample, o Options) (*Fitted, error) {
	if len(samples) == 0 || len(heldOut) == 0 {
		return nil, fmt.Errorf("train: %d samples and %d held out: both must be there", len(samples), len(heldOut))
	}
	alone, aloneHeldOut := m.policies(samples), m.policies(heldOut)
	if least := min(slices.Min(alone), slices.Min(aloneHeldOut)); !(least > 0) {
		return nil, fmt.Errorf("train: the policy alone has an error of %v: nothing to win back", least)
	}

	w, grad := newWeights(shape, o.Fading), newWeights(shape, o.Fading)
	w.initialise(shape, o.Seed)
	layer, opt := NewLayer(shape, m), newAdam(len(w.flat))
	rng := rand.New(rand.NewPCG(o.Seed, 0x0de4))
	best, bestError := &Fitted{}, math.Inf(1)
	steps := o.Epochs * len(samples)
	for epoch := range o.Epochs {
		left := 0.0
		for i, n := range rng.Perm(len(samples)) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			clear(grad.flat)
			left += layer.gradient(grad, w, samples[n], 1/alone[n]) / alone[n] / float64(len(samples))
			clip(grad.flat, o.Clip)
			opt.update(w.flat, grad.flat, rateAt(epoch*len(samples)+i, steps, o.WarmUp, o.Rate))
		}
		held := layer.errors(w, heldOut, aloneHeldOut)
		if e := average(held); e < bestError {
			bestError = e
			kept := newWeights(shape, o.Fading)
			copy(kept.flat, w.flat)
			best = &Fitted{Map: kept.featureMap(shape), Train: left, HeldOut: held, BestEpoch: epoch + 1}
		}
		best.Epochs = epoch + 1
		if epoch+1-best.BestEpoch >= o.Patience {
			break
		}
	}
	if best.Map == nil {
		return nil, fmt.Errorf("train: the held-out error was never a number")
	}
	return best, nil
}

// errors is each sample's error with a state over that of its policy alone.
func (l *Layer) errors(w *weights, samples []*Sample, alone []float64) []float64 {
	out := make([]float64, len(samples))
	for i, s := range samples {
		loss, _ := l.loss(w, s)
		out[i] = loss / alone[i]
	}
	return out
}

func average(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}
