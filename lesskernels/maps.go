package lesskernels

import (
	"errors"
	"fmt"
	"math"
)

// ErrMaps is wrapped by every refusal of a malformed .less file.
var ErrMaps = errors.New("malformed feature maps")

// ErrOtherModel is wrapped where maps meet a model that they were not made for.
var ErrOtherModel = errors.New("feature maps of another model")

// Maps are a model's feature maps, as a .less file holds them: for every layer
// the learned kernels of LESS, and what was measured of them.
type Maps struct {
	Header Header
	Type   DType // of the maps in the file: F32 or BF16
	Layers []*FeatureMap

	// Gate [layers][kvHeads] is added to log φ(q)·z; −Inf switches a state off.
	Gate [][]float32
	// HeadWeights [layers][kvHeads] rank KV heads for the vote policy; nil where
	// they were not measured.
	HeadWeights [][]float32
}

// Inputs tells which queries and keys φ and ψ take.
type Inputs string

// Queries and keys before or after the rotation by their positions.
const (
	PreRoPE  Inputs = "pre-rope"
	PostRoPE Inputs = "post-rope"
)

// Header is what a .less file says of its maps.
type Header struct {
	Model     string       `json:"model"` // SHA-256 of the model's file, in hex
	Inputs    Inputs       `json:"inputs"`
	Layers    int          `json:"layers"`
	Shape     FeatureShape `json:"shape"` // of every layer
	Policies  []string     `json:"policies"`
	Budgets   []int        `json:"budgets"`   // tokens that the policies kept
	Trained   int          `json:"trained"`   // tokens of a training sequence
	Validated int          `json:"validated"` // tokens up to which the gate holds: no state beyond
	Data      []string     `json:"data"`      // documents trained on
	Epsilon   float64      `json:"epsilon"`   // floor of φ·z, in the logarithm and as the divisor
	Gate      *GateReport  `json:"gate,omitempty"`
}

// GateReport is what decided the gate, in nats a token on text that was not
// trained on; differences are to the policy alone at equal bytes.
type GateReport struct {
	Heads    int           `json:"heads"`    // KV heads of all layers
	On       int           `json:"on"`       // of which this many have a state
	Measured []GateMeasure `json:"measured"` // with the final gate
}

// GateMeasure compares one policy and length with and without the state.
type GateMeasure struct {
	Policy    string  `json:"policy"`
	Budget    int     `json:"budget"`
	Tokens    int     `json:"tokens"`
	Sequences int     `json:"sequences"`
	Kind      string  `json:"kind"`  // "text" or "needles"
	Dense     float64 `json:"dense"` // full cache
	Plain     float64 `json:"plain"` // the policy with the bytes of the state as further tokens
	State     float64 `json:"state"`
}

// Check tells whether maps fit a model: the hash of its file and its sizes.
// The error wraps ErrOtherModel.
func (m *Maps) Check(model string, layers, heads, kvHeads, headDim int) error {
	s := m.Header.Shape
	switch {
	case m.Header.Model != model:
		return fmt.Errorf("%w: made for %.12s…, this one is %.12s…: train maps for it with `api train`, or use moment", ErrOtherModel, m.Header.Model, model)
	case m.Header.Layers != layers || s.Heads != heads || s.KVHeads != kvHeads || s.HeadDim != headDim:
		return fmt.Errorf("%w: made for %d layers of %d query and %d KV heads of %d, this one has %d of %d and %d of %d",
			ErrOtherModel, m.Header.Layers, s.Heads, s.KVHeads, s.HeadDim, layers, heads, kvHeads, headDim)
	}
	return nil
}

// On tells whether a KV head has a state.
func (m *Maps) On(layer, kvHead int) bool {
	return !math.IsInf(float64(m.Gate[layer][kvHead]), -1)
}

// limits of a header, far above any model; they bound what is allocated before
// a tensor's own size is known.
const (
	maxLayers = 4096
	maxTokens = 1 << 30
)

// check refuses a header that no trainer writes.
func (h Header) check() error {
	s := h.Shape
	switch {
	case len(h.Model) != 64 || !isHex(h.Model):
		return fmt.Errorf("model %.80q is no SHA-256 in hex", h.Model)
	case h.Inputs != PreRoPE && h.Inputs != PostRoPE:
		return fmt.Errorf("inputs %.80q are neither %s nor %s", string(h.Inputs), PreRoPE, PostRoPE)
	case h.Layers < 1 || h.Layers > maxLayers:
		return fmt.Errorf("%d layers, outside 1…%d", h.Layers, maxLayers)
	case s.Heads < 1 || s.KVHeads < 1 || s.Heads%s.KVHeads != 0:
		return fmt.Errorf("%d query heads are no multiple of %d KV heads", s.Heads, s.KVHeads)
	case s.HeadDim < 1 || s.Hidden < 1 || s.Rank < 1:
		return fmt.Errorf("head dim %d, hidden %d and rank %d must be positive", s.HeadDim, s.Hidden, s.Rank)
	case h.Trained < 1 || h.Trained > maxTokens || h.Validated < 1 || h.Validated > maxTokens:
		return fmt.Errorf("trained at %d and validated to %d tokens, outside 1…%d", h.Trained, h.Validated, maxTokens)
	case h.Epsilon != Epsilon:
		return fmt.Errorf("epsilon %v: this program computes with %v", h.Epsilon, Epsilon)
	}
	for _, n := range h.Budgets {
		if n < 1 || n > maxTokens {
			return fmt.Errorf("a budget of %d tokens, outside 1…%d", n, maxTokens)
		}
	}
	return nil
}

func isHex(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
