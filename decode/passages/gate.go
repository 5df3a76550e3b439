package passages

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Gate is what was measured of a model's answers from blended passages, beside those
// from the same prompts read whole. Not every model stands it: in an independent check
// Llama-3.1-8B lost a fifth of its F1 where Mistral-7B lost 3%.
type Gate struct {
	Model     string  `json:"model"` // SHA-256 of the model's file, in hex
	Name      string  `json:"name"`
	Share     float64 `json:"share"`     // of the passages' rows that were computed anew
	Questions int     `json:"questions"` // measured
	Passages  int     `json:"passages"`  // in a prompt
	Tokens    int     `json:"tokens"`    // of a passage
	Seed      uint64  `json:"seed"`
	FullF1    float64 `json:"full_f1"` // token F1 of the answers against the text that answers, means
	BlendF1   float64 `json:"blend_f1"`
	FullNLL   float64 `json:"full_nll"` // of the beginning of that text given the prompt, nats per token
	BlendNLL  float64 `json:"blend_nll"`
	Speedup   float64 `json:"speedup"` // time to first token, whole over blended: median
}

// What a model may lose and still be blended for, and how many questions can tell: the
// difference of F1 scatters by a tenth or more from one to the next.
const (
	mostF1         = 0.02
	mostNLL        = 0.05
	leastQuestions = 100
)

// Open tells whether the model's answers stand blending.
func (g Gate) Open() bool {
	return g.Questions >= leastQuestions && g.FullF1-g.BlendF1 <= mostF1 && g.BlendNLL-g.FullNLL <= mostNLL
}

// String says what was measured and what follows from it.
func (g Gate) String() string {
	verdict := "on"
	switch {
	case g.Questions < leastQuestions:
		verdict = fmt.Sprintf("off: fewer than %d questions cannot tell", leastQuestions)
	case !g.Open():
		verdict = fmt.Sprintf("off: more than %.2f of F1 or %.2f nats are lost", mostF1, mostNLL)
	}
	return fmt.Sprintf("blending %.0f%%: F1 %.3f (whole %.3f), answers at %.3f nats a token (whole %.3f), first token %.1f times sooner, over %d questions: %s",
		100*g.Share, g.BlendF1, g.FullF1, g.BlendNLL, g.FullNLL, g.Speedup, g.Questions, verdict)
}

// GateExtension of the file beside a model's, in place of .gguf.
const GateExtension = ".blend.json"

// ErrGate is wrapped where a file is not what Write writes.
var ErrGate = errors.New("malformed blend gate")

// ParseGate reads what Write wrote.
func ParseGate(content []byte) (Gate, error) {
	var g Gate
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&g); err != nil {
		return Gate{}, fmt.Errorf("%w: %w", ErrGate, err)
	}
	if len(g.Model) != 64 || g.Questions < 1 || !(g.Share > 0 && g.Share <= 1) {
		return Gate{}, fmt.Errorf("%w: no model, no questions or no share", ErrGate)
	}
	return g, nil
}

// Write writes a file.
func (g Gate) Write(path string) error {
	content, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(content, '\n'), 0o644)
}

//go:embed *.json
var known embed.FS

// FindGate looks for what was measured of a model: beside its file, then among what comes
// with the program. found is false where nobody has measured it.
func FindGate(model, hash string) (g Gate, found bool, err error) {
	path := BesideModel(model)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return knownGate(hash)
	}
	if err != nil {
		return Gate{}, false, err
	}
	if g, err = ParseGate(content); err != nil {
		return Gate{}, false, fmt.Errorf("%s: %w", path, err)
	}
	if g.Model != hash {
		return Gate{}, false, fmt.Errorf("%s: measured of another model (%.12s…, this one is %.12s…): measure this one with `api eval blend --write`", path, g.Model, hash)
	}
	return g, true, nil
}

// knownGate is the gate of a model that comes with the program.
func knownGate(hash string) (g Gate, found bool, err error) {
	names, err := fs.Glob(known, "*.json")
	if err != nil {
		return Gate{}, false, err
	}
	for _, name := range names {
		content, err := known.ReadFile(name)
		if err != nil {
			return Gate{}, false, err
		}
		if g, err = ParseGate(content); err != nil {
			return Gate{}, false, fmt.Errorf("%s: %w", name, err)
		}
		if g.Model == hash {
			return g, true, nil
		}
	}
	return Gate{}, false, nil
}

// BesideModel is where the gate of a model is looked for first.
func BesideModel(model string) string { return strings.TrimSuffix(model, ".gguf") + GateExtension }
