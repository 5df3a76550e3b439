package teach

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"lessrag/decode/model"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/train"
)

// Options of a training.
type Options struct {
	Hidden, Rank int
	Policies     []train.Policy // windows have them in turn
	Rows         int            // queries of a window that are trained on
	Recipe       train.Options
	Work         string // directory of checkpoints; it is made, and removed at the end
	Progress     func(Progress)
}

// Progress tells what was done last.
type Progress struct {
	Layer, Layers int // layers done, and all
	Stage         string
	Recovered     float64 // of the layer that was fitted last, on held-out windows
	Spent, Left   time.Duration
}

// Trainer trains the maps of one model.
type Trainer struct {
	reader *model.Layerwise
	config model.Config
	pool   *cpu.Pool
	corpus Corpus
	o      Options

	streams streams
	layers  []LayerReport
	start   time.Time
}

// LayerReport is how well one layer's map does.
type LayerReport struct {
	Layer     int                `json:"layer"`
	Epochs    int                `json:"epochs"`
	Best      int                `json:"best_epoch"`
	Trained   float64            `json:"recovered_train"`
	Recovered map[string]float64 `json:"recovered"` // by policy: share of its error on held-out windows that the state wins back
	Seconds   float64            `json:"seconds"`
}

// NewTrainer checks the options.
func NewTrainer(reader *model.Layerwise, config model.Config, pool *cpu.Pool, corpus Corpus, o Options) (*Trainer, error) {
	if len(corpus.Train) == 0 || len(corpus.HeldOut) == 0 || len(o.Policies) == 0 {
		return nil, errors.New("teach: windows to train on, windows held out and policies are needed")
	}
	shortest, longest := len(corpus.Train[0]), 0
	for _, w := range slices.Concat(corpus.Train, corpus.HeldOut) {
		shortest, longest = min(shortest, len(w)), max(longest, len(w))
	}
	if o.Recipe.Fading && longest > train.LongestFading {
		return nil, fmt.Errorf("teach: features that fade learn from windows of at most %d tokens, and one has %d: a shorter --length, --long 0, or --no-fading", train.LongestFading, longest)
	}
	if most := mostBudget(o.Policies); shortest < 2*most {
		return nil, fmt.Errorf("teach: windows of %d tokens are too short for a budget of %d: at least twice as long", shortest, most)
	}
	return &Trainer{reader: reader, config: config, pool: pool, corpus: corpus, o: o}, nil
}

func mostBudget(policies []train.Policy) int {
	most := 0
	for _, p := range policies {
		most = max(most, p.Budget)
	}
	return most
}

// Shape is that of every layer's map.
func (t *Trainer) Shape() lesskernels.FeatureShape {
	return lesskernels.FeatureShape{Heads: t.config.Heads, KVHeads: t.config.KVHeads, HeadDim: t.config.HeadDim, Hidden: t.o.Hidden, Rank: t.o.Rank}
}

// Run fits a map to every layer, from the last checkpoint on. As many layers as
// the pool has threads are captured in one pass over the windows and fitted side
// by side.
func (t *Trainer) Run(ctx context.Context) ([]*lesskernels.FeatureMap, []LayerReport, error) {
	t.start = time.Now()
	if err := os.MkdirAll(t.o.Work, 0o755); err != nil {
		return nil, nil, fmt.Errorf("teach: make a directory for checkpoints: %w", err)
	}
	maps, err := t.resume()
	if err != nil {
		return nil, nil, err
	}
	resumed := len(maps)
	for len(maps) < t.config.Layers {
		first := len(maps)
		last := min(first+t.pool.Threads(), t.config.Layers)
		lessons, err := t.capture(ctx, first, last)
		if err != nil {
			return nil, nil, fmt.Errorf("teach: capture layers %d to %d: %w", first, last-1, err)
		}
		fitted, err := t.fit(ctx, first, lessons)
		if err != nil {
			return nil, nil, err
		}
		maps = append(maps, fitted...)
		if err := t.checkpoint(maps); err != nil {
			return nil, nil, fmt.Errorf("teach: write a checkpoint: %w", err)
		}
		spent := time.Since(t.start)
		t.report(Progress{Layer: len(maps), Layers: t.config.Layers, Stage: "fit", Recovered: mean(t.layers[len(t.layers)-1].Recovered),
			Spent: spent, Left: spent / time.Duration(len(maps)-resumed) * time.Duration(t.config.Layers-len(maps))})
	}
	return maps, t.layers, t.streams.close()
}

func (t *Trainer) report(p Progress) {
	if t.o.Progress != nil {
		t.o.Progress(p)
	}
}

func mean(x map[string]float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// lesson is what one layer learns from.
type lesson struct {
	metric         *train.Metric
	train, heldOut []*train.Sample
	policies       []train.Policy // of heldOut
}

// capture runs all windows through layers [first, last).
func (t *Trainer) capture(ctx context.Context, first, last int) ([]lesson, error) {
	lessons := make([]lesson, last-first)
	for i := range lessons {
		lessons[i].metric = train.NewMetric(t.reader.Output(first+i), t.config.Width, t.config.Heads*t.config.HeadDim)
	}
	if err := t.streams.begin(); err != nil {
		return nil, err
	}
	begun := time.Now()
	for i, tokens := range t.windows() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		x, err := t.stream(i, tokens, first)
		if err != nil {
			return nil, err
		}
		for layer := first; layer < last; layer++ {
			t.reader.Layer(layer, x, func(h *model.Heads) { t.learn(&lessons[layer-first], i, h) })
		}
		if err := t.streams.write(i, x); err != nil {
			return nil, err
		}
		if (i+1)%16 == 0 {
			t.report(Progress{Layer: first, Layers: t.config.Layers, Stage: fmt.Sprintf("capture %d of %d windows", i+1, len(t.windows())),
				Spent: time.Since(t.start), Left: time.Since(begun) / time.Duration(i+1) * time.Duration(len(t.windows())-i-1)})
		}
	}
	return lessons, t.streams.commit(last)
}

func (t *Trainer) windows() [][]int32 { return slices.Concat(t.corpus.Train, t.corpus.HeldOut) }

// stream is what enters a layer.
func (t *Trainer) stream(i int, tokens []int32, layer int) ([]float32, error) {
	if layer == 0 {
		return t.reader.Embed(tokens)
	}
	return t.streams.read(i)
}

// learn attends as the teacher does, and turns what policies do to the window
// into samples: one of them where it is trained on, two where it is held out.
func (t *Trainer) learn(l *lesson, window int, h *model.Heads) {
	t.reader.Dense(h)
	a := attentionOf(t.config, h)
	rows := someRows(uint64(window), h.Tokens, mostBudget(t.o.Policies), t.o.Rows)
	for _, p := range t.policiesOf(window) {
		s := train.Walk(t.pool, a, p, rows).Sample(a, h.PreQ, h.PreK, h.Out)
		if window < len(t.corpus.Train) {
			l.train = append(l.train, s)
		} else {
			l.heldOut, l.policies = append(l.heldOut, s), append(l.policies, p)
		}
	}
}

// policiesOf a window: they take turns.
func (t *Trainer) policiesOf(window int) []train.Policy {
	all := t.o.Policies
	if window < len(t.corpus.Train) {
		return all[window%len(all):][:1]
	}
	distinct := Distinct(all)
	var some []train.Policy
	for _, p := range turnsOf(len(distinct), window-len(t.corpus.Train)) {
		some = append(some, distinct[p])
	}
	return some
}

// Distinct are policies without their repetitions.
func Distinct(policies []train.Policy) []train.Policy {
	var distinct []train.Policy
	for _, p := range policies {
		if !slices.Contains(distinct, p) {
			distinct = append(distinct, p)
		}
	}
	return distinct
}

// turnsOf picks two of n policies, or the only one, for held-out window i.
func turnsOf(n, i int) []int {
	if n == 1 {
		return []int{0}
	}
	return []int{i % n, (i + n/2) % n}
}

// attentionOf widens what caches store.
func attentionOf(c model.Config, h *model.Heads) *train.Attention {
	return &train.Attention{
		Shape:  train.Shape{Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim},
		Tokens: h.Tokens, Scale: float32(1 / math.Sqrt(float64(c.HeadDim))), Q: h.Q, K: widen(h.K), V: widen(h.V),
	}
}

func widen(x []uint16) []float32 {
	y := make([]float32, len(x))
	for i, bits := range x {
		y[i] = math.Float32frombits(uint32(bits) << 16)
	}
	return y
}

// someRows draws n positions at which every budget is full, in rising order.
func someRows(seed uint64, tokens, budget, n int) []int {
	rng := rand.New(rand.NewPCG(seed, 0x4045))
	rows := rng.Perm(tokens - budget)
	rows = rows[:min(n, len(rows))]
	for i := range rows {
		rows[i] += budget
	}
	slices.Sort(rows)
	return rows
}

// fit trains the maps of some layers side by side.
func (t *Trainer) fit(ctx context.Context, first int, lessons []lesson) ([]*lesskernels.FeatureMap, error) {
	maps, reports, failures := make([]*lesskernels.FeatureMap, len(lessons)), make([]LayerReport, len(lessons)), make([]error, len(lessons))
	var all sync.WaitGroup
	for i := range lessons {
		all.Add(1)
		go func() {
			defer all.Done()
			recipe, begun, l := t.o.Recipe, time.Now(), &lessons[i]
			recipe.Seed += uint64(first + i)
			fitted, err := train.Fit(ctx, t.Shape(), l.metric, l.train, l.heldOut, recipe)
			if err != nil {
				failures[i] = fmt.Errorf("teach: fit layer %d: %w", first+i, err)
				return
			}
			maps[i] = fitted.Map
			reports[i] = LayerReport{Layer: first + i, Epochs: fitted.Epochs, Best: fitted.BestEpoch, Trained: 1 - fitted.Train,
				Recovered: byPolicy(l.policies, fitted.HeldOut), Seconds: time.Since(begun).Seconds()}
		}()
	}
	all.Wait()
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	t.layers = append(t.layers, reports...)
	return maps, nil
}

// byPolicy is the mean share won back of each policy's samples.
func byPolicy(policies []train.Policy, left []float64) map[string]float64 {
	sums, counts := map[string]float64{}, map[string]float64{}
	for i, p := range policies {
		sums[p.String()] += 1 - left[i]
		counts[p.String()]++
	}
	for name := range sums {
		sums[name] /= counts[name]
	}
	return sums
}

// Clean removes the checkpoints.
func (t *Trainer) Clean() error { return os.RemoveAll(filepath.Clean(t.o.Work)) }
