package teach

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"lessrag/decode/gguf"
	"lessrag/decode/model"
	"lessrag/decode/tokenizer"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/train"
)

// reader is the default reader as a teacher of windows of up to 300 tokens.
func reader(t *testing.T) (*model.Layerwise, model.Config, *cpu.Pool, *tokenizer.Tokenizer) {
	t.Helper()
	assets := os.Getenv("LESSRAG_ASSETS")
	if assets == "" {
		assets = "../../assets"
	}
	f, err := gguf.Open(filepath.Join(assets, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err != nil {
		t.Fatalf("%v: run make fetch", err)
	}
	defer f.Close()
	pool := cpu.NewPool(2)
	t.Cleanup(pool.Close)
	c, err := model.NewCPU(f, model.Int8, model.Limits{Tokens: 300, Sequences: 1}, pool)
	if err != nil {
		t.Fatal(err)
	}
	l, err := model.NewLayerwise(c)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.FromGGUF(f)
	if err != nil {
		t.Fatal(err)
	}
	return l, c.Config(), pool, tok
}

// someText is this package's own source, in windows.
func someText(t *testing.T, tok *tokenizer.Tokenizer) Corpus {
	t.Helper()
	var documents []Document
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, Document{path, tok.Encode(string(text))})
	}
	c, err := Cut(documents, nil, 160, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTrainer trains all layers of the reader on three short windows; then it
// interrupts the same training and lets it go on, which gives the same maps. At
// last it gates them, and a state that is off is the policy alone.
func TestTrainer(t *testing.T) {
	l, config, pool, tok := reader(t)
	corpus := someText(t, tok)
	o := Options{Hidden: 16, Rank: 4, Rows: 40, Recipe: train.Recipe, Work: filepath.Join(t.TempDir(), "work"),
		Policies: []train.Policy{{Name: train.H2O, Budget: 16}, {Name: train.TOVA, Budget: 20}}}
	o.Recipe.Epochs = 2
	trainer := func(o Options) *Trainer {
		tr, err := NewTrainer(l, config, pool, corpus, o)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	whole := trainer(o)
	maps, report, err := whole.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(maps) != config.Layers || len(report) != config.Layers || len(report[3].Recovered) != 2 {
		t.Fatalf("%d maps, %d reports, %+v", len(maps), len(report), report[3])
	}

	cut := o
	cut.Work = filepath.Join(t.TempDir(), "work")
	ctx, cancel := context.WithCancel(context.Background())
	cut.Progress = func(p Progress) {
		if p.Layer >= 4 {
			cancel()
		}
	}
	if _, _, err := trainer(cut).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	other := cut
	other.Rows++
	if _, _, err := trainer(other).Run(context.Background()); err == nil || !strings.Contains(err.Error(), "another training") {
		t.Fatalf("other options: %v", err)
	}
	cut.Progress = func(p Progress) {
		if p.Layer < 4 {
			t.Errorf("layer %d is done again", p.Layer)
		}
	}
	resumed, _, err := trainer(cut).Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(resumed, maps) {
		t.Error("a training that was interrupted gives other maps")
	}
	if files, _ := filepath.Glob(filepath.Join(cut.Work, "stream-*")); len(files) != 1 {
		t.Errorf("streams left: %v", files)
	}
	if err := whole.Clean(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(o.Work); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("checkpoints left: %v", err)
	}
	checkGate(t, NewEvaluator(l, config, pool, maps), corpus, o, tok)
}

func checkGate(t *testing.T, e *Evaluator, corpus Corpus, o Options, tok *tokenizer.Tokenizer) {
	ctx := context.Background()
	byError, err := e.ByError(ctx, corpus.HeldOut, o.Policies, 30)
	if err != nil || len(byError) != len(names(o.Policies)) {
		t.Fatalf("gates %v, %v", byError, err)
	}
	gate := byError[o.Policies[0].Name]
	if len(gate) != e.config.Layers || len(gate[0]) != e.config.KVHeads {
		t.Fatalf("gate %v", gate)
	}
	window := corpus.HeldOut[:1]
	nll := func(r Reading) float64 {
		x, err := e.NLL(ctx, window[0], 60, r)
		if err != nil || !(x > 0 && x < 20) {
			t.Fatalf("%+v: %v nats, %v", r, x, err)
		}
		return x
	}
	plain := nll(Reading{Policy: &o.Policies[0]})
	if off := nll(Reading{Policy: &o.Policies[0], Gate: Shifted(gate, gates[0])}); off != plain {
		t.Errorf("states that are off: %v nats, the policy alone has %v", off, plain)
	}
	dense := nll(Reading{})
	checkWalk(t, e, window[0])
	// The two round attention in other places (checkWalk: less than 16 bits do), and int8 products carry that on: they move by about 0.1%.
	if all := nll(Reading{Policy: &train.Policy{Name: train.H2O, Budget: len(window[0])}, Gate: gate}); !(math.Abs(all-dense) <= 2e-3*dense) {
		t.Errorf("a budget of all tokens: %v nats, dense attention has %v", all, dense)
	}
	probes := append(TextProbes(window, o.Policies[:1]), NeedleProbes(window, tok.Encode)...)
	chosen, err := e.Settle(ctx, gate, probes, 160, 0.02, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	if chosen.Report.Validated != 160 || chosen.Report.On != On(chosen.Gate) {
		t.Errorf("%+v, %d states on", chosen.Report, On(chosen.Gate))
	}
	for _, m := range chosen.Report.Measured {
		if !(m.State <= m.Plain+0.02) || !(m.Dense > 0) {
			t.Errorf("the gate lets %+v pass", m)
		}
	}
}

// checkWalk follows a policy that evicts nothing through every layer: its attention is
// that of all tokens, but for the 16 bits that the fast one rounds to.
func checkWalk(t *testing.T, e *Evaluator, tokens []int32) {
	t.Helper()
	x, err := e.reader.Embed(tokens)
	if err != nil {
		t.Fatal(err)
	}
	for layer := range e.config.Layers {
		e.reader.Layer(layer, x, func(h *model.Heads) {
			e.reader.Dense(h)
			a := attentionOf(e.config, h)
			rows := make([]int, h.Tokens)
			for i := range rows {
				rows[i] = i
			}
			walked := train.Walk(e.pool, a, train.Policy{Name: train.H2O, Budget: len(tokens)}, rows).Out
			var wrong, size float64
			for i, want := range h.Out {
				d := float64(walked[i]) - float64(want)
				wrong, size = wrong+d*d, size+float64(want)*float64(want)
			}
			if err := math.Sqrt(wrong / size); !(err <= 1.0/512) { // half of bf16's last place
				t.Errorf("layer %d: a policy that evicts nothing is %.2g of attention's norm away from it", layer, err)
			}
		})
	}
}

func TestNewTrainerRefuses(t *testing.T) {
	good := Corpus{Train: [][]int32{make([]int32, 100)}, HeldOut: [][]int32{make([]int32, 100)}}
	p := []train.Policy{{Name: train.H2O, Budget: 50}}
	for name, c := range map[string]struct {
		Corpus
		policies []train.Policy
	}{
		"no windows":    {Corpus{HeldOut: good.HeldOut}, p},
		"none held out": {Corpus{Train: good.Train}, p},
		"no policy":     {good, nil},
		"short windows": {good, []train.Policy{{Name: train.H2O, Budget: 51}}},
	} {
		if _, err := NewTrainer(nil, model.Config{}, nil, c.Corpus, Options{Policies: c.policies}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	long := Corpus{Train: good.Train, HeldOut: [][]int32{make([]int32, train.LongestFading+1)}}
	if _, err := NewTrainer(nil, model.Config{}, nil, long, Options{Policies: p, Recipe: train.Options{Fading: true}}); err == nil {
		t.Error("windows too long for features that fade: accepted")
	}
	for _, c := range []Corpus{good, long} { // without fading any length is fine
		if _, err := NewTrainer(nil, model.Config{}, nil, c, Options{Policies: p}); err != nil {
			t.Error(err)
		}
	}
}
