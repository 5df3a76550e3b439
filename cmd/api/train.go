package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lessrag/decode/gguf"
	"lessrag/decode/model"
	"lessrag/decode/recall"
	"lessrag/decode/teach"
	"lessrag/decode/tokenizer"
	"lessrag/ingest/extract"
	"lessrag/lesskernels"
	"lessrag/lesskernels/cpu"
	"lessrag/lesskernels/train"
)

type trainCmd struct {
	Files    []string `arg:"" name:"file" help:"Documents to learn from: files and directories of Markdown, plain text, HTML. About a megabyte of text of the kind that will be read is enough; a sixth of the files is held out."`
	Output   string   `short:"o" help:"Where to write the maps; the report goes beside them." default:"maps.less" placeholder:"FILE.less"`
	Policies []string `help:"Policies and budgets that windows learn under, in turn. Several make maps that serve them all." default:"h2o:128,sinks:124,h2o:64,tova:128,h2o:128,sinks:60,tova:128,sinks:252"`
	Length   int      `help:"Tokens of a window: the length at which the maps will be used." default:"2048"`
	Windows  int      `help:"Windows to learn from." default:"36"`
	Long     int      `help:"Windows of four times the length besides, so that the maps hold up beyond it." default:"2"`
	Rows     int      `help:"Queries of a window to learn from." default:"320"`
	Epochs   int      `help:"Times that each window is seen; training stops earlier when held-out windows get no better." default:"8"`
	Hidden   int      `help:"Width of the maps." default:"128"`
	Rank     int      `help:"Rank of the state. More was not better on the default reader." default:"8"`
	Fading   bool     `default:"true" negatable:"" help:"Let features fade with the distance between token and query, at rates that are learned; --no-fading trains maps as the paper has them."`
	Probes   int      `help:"Held-out windows that the gate reads with and without states; at most 4." default:"2"`
	Needles  int      `help:"Prompts with a hidden fact that the gate reads." default:"6"`
	Spare    bool     `name:"spare-evaluation" help:"Leave out the pages that api eval cache reads, by their names, so that the maps can be judged on them."`
	NoGate   bool     `help:"Leave every state on, without measuring what each is worth."`
	Regate   bool     `help:"Train nothing: gate the maps of --maps anew, on the documents that are held out."`
}

// Help is what `api train --help` says beside its flags.
func (trainCmd) Help() string {
	return `A cache of fixed size evicts tokens; LESS keeps what they meant in a small state for
each KV head, through two little networks φ and ψ that are trained once for a model.
Training runs the model over windows of the documents, follows each eviction policy
through its attention, and teaches φ and ψ to give back what the evicted tokens would
have added. Then every state is measured on documents that were held out, under each
policy, and switched off where it does not help at equal bytes: the gate.

    api train docs/ manuals/*.html -o my.less
    api perplexity page.txt --cache h2o+less --budget 128 --maps my.less

Interrupt it at any time: the same command goes on from the last layer. The maps of one
model are refused by every other.`
}

// Run trains, gates and writes the maps.
func (c *trainCmd) Run(ctx context.Context, g *globals) (err error) {
	policies := make([]train.Policy, len(c.Policies))
	for i, text := range c.Policies {
		if policies[i], err = train.ParsePolicy(text); err != nil {
			return usageError{fmt.Errorf("--policies: %w", err)}
		}
	}
	if c.Length < 64 || c.Windows < 1 || c.Long < 0 || c.Rows < 1 || c.Epochs < 1 || c.Hidden < 1 || c.Rank < 1 || c.Probes < 1 || c.Needles < 0 {
		return usageError{errors.New("--windows, --rows, --epochs, --hidden, --rank and --probes must be positive, --length at least 64")}
	}
	path, err := g.readerPath()
	if err != nil {
		return err
	}
	r, err := openTeacher(path, g.Threads, longer*c.Length)
	if err != nil {
		return err
	}
	defer r.pool.Close()
	corpus, err := c.corpus(ctx, r.tokenizer)
	if err != nil {
		return err
	}
	begun := time.Now()
	maps, report, clean, err := c.make(ctx, g, r, corpus, policies)
	if err != nil {
		return err
	}
	if !c.NoGate {
		if err := c.gate(ctx, r, corpus, policies, maps); err != nil {
			return err
		}
	}
	if err := maps.Write(c.Output); err != nil {
		return err
	}
	if err := writeTrainingReport(strings.TrimSuffix(c.Output, filepath.Ext(c.Output)), maps, report); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "training: %s, in %s\n", c.Output, time.Since(begun).Round(time.Second))
	return clean()
}

// make trains maps, or reads those that are to be gated anew. clean removes what
// the training left beside them.
func (c *trainCmd) make(ctx context.Context, g *globals, r *teacher, corpus teach.Corpus, policies []train.Policy) (_ *lesskernels.Maps, _ []teach.LayerReport, clean func() error, err error) {
	if c.Regate {
		m, err := lesskernels.ReadMaps(g.Maps)
		if err != nil {
			return nil, nil, nil, usageError{fmt.Errorf("--maps: %w", err)}
		}
		return m, nil, func() error { return nil }, m.Check(r.hash, r.config.Layers, r.config.Heads, r.config.KVHeads, r.config.HeadDim)
	}
	recipe := train.Recipe
	recipe.Epochs, recipe.Fading = c.Epochs, c.Fading
	trainer, err := teach.NewTrainer(r.layerwise, r.config, r.pool, corpus, teach.Options{Hidden: c.Hidden, Rank: c.Rank,
		Policies: policies, Rows: c.Rows, Recipe: recipe, Work: c.Output + ".work", Progress: showTraining})
	if err != nil {
		return nil, nil, nil, err
	}
	layers, report, err := trainer.Run(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	m, err := c.maps(r, trainer.Shape(), corpus.Names, policies, layers)
	return m, report, trainer.Clean, err
}

// maps joins the layers to a file's content, rounded as the file will hold them,
// with every state on.
func (c *trainCmd) maps(r *teacher, shape lesskernels.FeatureShape, names []string, policies []train.Policy, layers []*lesskernels.FeatureMap) (*lesskernels.Maps, error) {
	m := &lesskernels.Maps{Type: lesskernels.BF16, Layers: layers, Header: lesskernels.Header{
		Model: r.hash, Inputs: lesskernels.PreRoPE, Layers: len(layers), Shape: shape,
		Trained: c.Length, Data: names, Epsilon: lesskernels.Epsilon,
	}}
	for _, p := range policies {
		if !slices.Contains(m.Header.Policies, p.Name) {
			m.Header.Policies = append(m.Header.Policies, p.Name)
		}
		if !slices.Contains(m.Header.Budgets, p.Budget) {
			m.Header.Budgets = append(m.Header.Budgets, p.Budget)
		}
	}
	var open [][]float32
	for range layers {
		open = append(open, make([]float32, shape.KVHeads))
	}
	m.SetGate(lesskernels.Others, open, lesskernels.GateReport{Validated: c.Length, On: teach.On(open)})
	var file bytes.Buffer
	if err := m.Encode(&file); err != nil {
		return nil, err
	}
	return lesskernels.ParseMaps(bytes.NewReader(file.Bytes()), int64(file.Len()))
}

// writeTrainingReport writes what was measured as JSON and drawn.
func writeTrainingReport(base string, m *lesskernels.Maps, layers []teach.LayerReport) error {
	text, err := json.MarshalIndent(struct {
		Header lesskernels.Header    `json:"maps"`
		Gates  map[string][][]string `json:"gates"` // log-scales; off where a state is not used
		Layers []teach.LayerReport   `json:"layers"`
	}{m.Header, gateTexts(m), layers}, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(base+".json", append(text, '\n'), 0o644); err != nil {
		return err
	}
	if layers == nil {
		return nil // nothing was trained
	}
	return os.WriteFile(base+".svg", teach.Plot(layers, m.GateOf(lesskernels.Others).LogScale), 0o644)
}

// teacher is a reader as training needs it.
type teacher struct {
	layerwise *model.Layerwise
	config    model.Config
	tokenizer *tokenizer.Tokenizer
	pool      *cpu.Pool
	hash      string
}

// openTeacher loads a reader for windows of up to tokens.
func openTeacher(path string, threads, tokens int) (_ *teacher, err error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	t := &teacher{pool: cpu.NewPool(threads)}
	if t.tokenizer, err = tokenizer.FromGGUF(f); err != nil {
		return nil, err
	}
	if t.hash, err = f.Hash(); err != nil {
		return nil, err
	}
	if t.config, err = model.NewConfig(f); err != nil {
		return nil, err
	}
	m, err := model.NewCPU(f, model.Int8, model.Limits{Tokens: min(tokens, t.config.Context), Sequences: 1}, t.pool)
	if err != nil {
		return nil, err
	}
	t.layerwise, err = model.NewLayerwise(m)
	return t, err
}

const (
	mostDocument = 120_000 // bytes of a document's text that are used
	longer       = 4       // times the length: windows beside the others
	minHeldOut   = 4       // windows
)

// corpus reads, extracts and tokenises the files, and cuts windows.
func (c *trainCmd) corpus(ctx context.Context, t *tokenizer.Tokenizer) (teach.Corpus, error) {
	documents, err := c.documents(ctx, t)
	if err != nil {
		return teach.Corpus{}, err
	}
	corpus, err := teach.Cut(documents, t.Encode("\n\n"), c.Length, c.Windows, max(minHeldOut, c.Windows/10))
	if err != nil || c.Long == 0 {
		return corpus, err
	}
	long, err := teach.Cut(documents, t.Encode("\n\n"), longer*c.Length, c.Long, 1)
	corpus.Train = append(corpus.Train, long.Train...)
	corpus.HeldOut = append(corpus.HeldOut, long.HeldOut...)
	return corpus, err
}

// documents reads the files. One of a directory is named by its path below it,
// so that the same tree gives the same training wherever it lies.
func (c *trainCmd) documents(ctx context.Context, t *tokenizer.Tokenizer) ([]teach.Document, error) {
	var documents []teach.Document
	for _, root := range c.Files {
		found, err := prose.walk([]string{root})
		if err != nil {
			return nil, err
		}
		for _, path := range found.paths {
			if c.Spare && recall.ForEvaluation(path) {
				continue
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			d, err := extract.Extract(ctx, path, "", content)
			if err != nil {
				fmt.Fprintf(os.Stderr, "training: %s is left out: %v\n", path, err)
				continue
			}
			name := filepath.Base(path)
			if below, err := filepath.Rel(root, path); err == nil && below != "." {
				name = filepath.ToSlash(below)
			}
			text := d.Text[:min(len(d.Text), mostDocument)]
			documents = append(documents, teach.Document{Name: name, Tokens: t.Encode(strings.ToValidUTF8(text, ""))})
		}
	}
	return documents, nil
}

// showTraining writes one line for each step.
func showTraining(p teach.Progress) {
	if p.Stage != "fit" {
		fmt.Fprintf(os.Stderr, "training: layer %d of %d: %s\n", p.Layer, p.Layers, p.Stage)
		return
	}
	fmt.Fprintf(os.Stderr, "training: %d of %d layers, %.0f%% of the last one's error won back, %s, %s left\n",
		p.Layer, p.Layers, 100*p.Recovered, p.Spent.Round(time.Second), p.Left.Round(time.Second))
}
