package teach

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lessrag/lesskernels"
)

// checkpoint is the state of a training between two captures: the streams that
// enter the next layer lie beside it.
type checkpoint struct {
	Training string        `json:"training"` // hash of what is trained, and how
	Layers   []LayerReport `json:"layers"`
}

// fingerprint tells one training from another: model, windows and options.
func (t *Trainer) fingerprint() string {
	o := t.o
	o.Work, o.Progress = "", nil
	h := sha256.New()
	fmt.Fprintf(h, "%+v %+v %v %v", t.config, o, t.corpus.Train, t.corpus.HeldOut)
	return hex.EncodeToString(h.Sum(nil))
}

func (t *Trainer) checkpointPath() string { return filepath.Join(t.o.Work, "checkpoint.json") }

func (t *Trainer) mapPath(layer int) string {
	return filepath.Join(t.o.Work, fmt.Sprintf("layer-%d.less", layer))
}

// resume reads the last checkpoint; without one, training begins at layer 0. It
// refuses that of another training.
func (t *Trainer) resume() ([]*lesskernels.FeatureMap, error) {
	t.streams = streams{dir: t.o.Work}
	for _, w := range t.windows() {
		t.streams.sizes = append(t.streams.sizes, len(w)*t.config.Width)
	}
	text, err := os.ReadFile(t.checkpointPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var c checkpoint
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return nil, fmt.Errorf("teach: read the checkpoint: %w; remove %s to begin anew", err, t.o.Work)
	}
	if c.Training != t.fingerprint() || !t.streams.open(len(c.Layers)) {
		return nil, fmt.Errorf("teach: %s holds another training, of another model, other documents or other options: remove it, or train as before", t.o.Work)
	}
	t.layers = c.Layers
	var maps []*lesskernels.FeatureMap
	for layer := range c.Layers {
		m, err := lesskernels.ReadMaps(t.mapPath(layer))
		if err != nil || m.Layers[0].FeatureShape != t.Shape() {
			return nil, fmt.Errorf("teach: the checkpoint of layer %d is damaged (%v): remove %s to begin anew", layer, err, t.o.Work)
		}
		maps = append(maps, m.Layers[0])
	}
	return maps, nil
}

// checkpoint writes the maps that are new, then says that they are there.
func (t *Trainer) checkpoint(maps []*lesskernels.FeatureMap) error {
	for layer, f := range maps {
		if _, err := os.Stat(t.mapPath(layer)); err == nil {
			continue
		}
		one := lesskernels.Maps{Type: lesskernels.F32, Layers: []*lesskernels.FeatureMap{f},
			Header: lesskernels.Header{Model: t.fingerprint(), Inputs: lesskernels.PreRoPE, Layers: 1, Shape: f.FeatureShape,
				Trained: len(t.corpus.Train[0]), Epsilon: lesskernels.Epsilon}}
		one.SetGate(lesskernels.Others, [][]float32{make([]float32, f.KVHeads)}, lesskernels.GateReport{Validated: len(t.corpus.Train[0]), On: f.KVHeads})
		if err := one.Write(t.mapPath(layer)); err != nil {
			return err
		}
	}
	text, err := json.Marshal(checkpoint{t.fingerprint(), t.layers})
	if err != nil {
		return err
	}
	part := t.checkpointPath() + ".part"
	if err := os.WriteFile(part, text, 0o644); err != nil {
		return err
	}
	if err := os.Rename(part, t.checkpointPath()); err != nil {
		return err
	}
	return t.streams.forget()
}
