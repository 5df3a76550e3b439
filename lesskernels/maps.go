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

	// LogScales [layers][kvHeads] are added to log φ(q)·z, −Inf switches a state off:
	// for the policies of Header.Gates.
	LogScales map[string][][]float32
	// HeadWeights [layers][kvHeads] rank KV heads for the vote policy; nil where
	// they were not measured.
	HeadWeights [][]float32
}

// Gate is where, and how much, the states count beside an eviction policy.
type Gate struct {
	LogScale  [][]float32 // [layers][kvHeads], see Maps.LogScales
	Validated int         // tokens up to which it holds: no state is asked beyond
}

// Others names the gate of every policy that has none of its own.
const Others = "others"

// GateOf is the gate of an eviction policy.
func (m *Maps) GateOf(policy string) Gate {
	if _, ok := m.Header.Gates[policy]; !ok {
		policy = Others
	}
	return Gate{m.LogScales[policy], m.Header.Gates[policy].Validated}
}

// ReportOf is what decided the gate of an eviction policy.
func (h *Header) ReportOf(policy string) GateReport {
	if r, ok := h.Gates[policy]; ok {
		return r
	}
	return h.Gates[Others]
}

// SetGate sets the gate of a policy, and what decided it.
func (m *Maps) SetGate(policy string, logScale [][]float32, report GateReport) {
	if m.LogScales == nil {
		m.LogScales, m.Header.Gates = map[string][][]float32{}, map[string]GateReport{}
	}
	m.LogScales[policy], m.Header.Gates[policy] = logScale, report
}

// On counts the KV heads that have a state.
func (g Gate) On() int {
	n := 0
	for _, row := range g.LogScale {
		for _, logScale := range row {
			if !Off(logScale) {
				n++
			}
		}
	}
	return n
}

// Off tells whether a log-scale switches its state off.
func Off(logScale float32) bool { return math.IsInf(float64(logScale), -1) }

// Inputs tells which queries and keys φ and ψ take.
type Inputs string

// Queries and keys before or after the rotation by their positions.
const (
	PreRoPE  Inputs = "pre-rope"
	PostRoPE Inputs = "post-rope"
)

// Header is what a .less file says of its maps.
type Header struct {
	Model    string                `json:"model"` // SHA-256 of the model's file, in hex
	Inputs   Inputs                `json:"inputs"`
	Layers   int                   `json:"layers"`
	Shape    FeatureShape          `json:"shape"` // of every layer
	Policies []string              `json:"policies"`
	Budgets  []int                 `json:"budgets"` // tokens that the policies kept
	Trained  int                   `json:"trained"` // tokens of a training sequence
	Data     []string              `json:"data"`    // documents trained on
	Epsilon  float64               `json:"epsilon"` // floor of φ·z, in the logarithm and as the divisor
	Gates    map[string]GateReport `json:"gates"`   // of the policies that were measured, and of Others
}

// GateReport is what decided the gate of a policy, in nats a token on text that
// was not trained on; differences are to the policy alone at equal bytes.
type GateReport struct {
	Validated int           `json:"validated"`          // see Gate
	On        int           `json:"on"`                 // KV heads that have a state
	Measured  []GateMeasure `json:"measured,omitempty"` // with the final gate
}

// Gain is what the states win over the policy alone at equal bytes on texts of a length,
// in nats a token, added up over what was measured.
func (r GateReport) Gain(tokens int) float64 {
	gain := 0.0
	for _, m := range r.Measured {
		if m.Kind == "text" && m.Tokens == tokens {
			gain += m.Plain - m.State
		}
	}
	return gain
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
	case h.Trained < 1 || h.Trained > maxTokens:
		return fmt.Errorf("trained at %d tokens, outside 1…%d", h.Trained, maxTokens)
	case h.Epsilon != Epsilon:
		return fmt.Errorf("epsilon %v: this program computes with %v", h.Epsilon, Epsilon)
	}
	if _, ok := h.Gates[Others]; !ok {
		return fmt.Errorf("no gate of %s among %d", Others, len(h.Gates))
	}
	for policy, g := range h.Gates {
		if g.Validated < 1 || g.Validated > maxTokens {
			return fmt.Errorf("the gate of %.80q is validated to %d tokens, outside 1…%d", policy, g.Validated, maxTokens)
		}
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
