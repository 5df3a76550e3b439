package cache

// The states that a Spec may name.
const (
	Less   = "less"   // LESS (arXiv 2402.09398): learned feature maps
	Moment = "moment" // MomentKV (arXiv 2606.01563): closed form, training-free
)

// ClockStep is what the clock of a state goes forward by, in positions: rarely enough that fading sums cost
// nothing, and by steps that depend on the tokens alone, so that a state has the same bits however those that
// it absorbs are grouped.
const ClockStep = 64

// State is what a KV head remembers of the tokens that it has evicted. Its numbers
// lie in the sequence's memory and are counted in its Plan. Who computes attention
// adds the tokens that Absorb hands over, in their order, and asks it as one more
// segment; a State that has absorbed nothing is no segment.
type State struct {
	Absorbed int // tokens that were handed over
	Clock    int // position that H and Z have faded to: see lesskernels.FeatureMap

	// LESS: sums over the absorbed tokens.
	H []float32 // [R, headDim] Σ ψ(k)ᵀ v
	Z []float32 // [R] Σ ψ(k)

	// MomentKV: the first moments, of keys as they were stored.
	KeyMean    []float32 // [d]
	ValueMean  []float32 // [d]
	Covariance []float32 // [d, d] Σ (v − mean)(k − mean)ᵀ, values in rows
}

// stateFloats is how many numbers the state of KV head i has.
func (p Plan) stateFloats(i int) int {
	switch p.Spec.State {
	case Less:
		return p.Shape.Ranks[i] * (p.Shape.HeadDim + 1)
	case Moment:
		d := p.Shape.valueDim()
		return d*d + 2*d
	}
	return 0
}

// newState takes the memory of KV head i's state.
func newState(p Plan, i int, memory *slab) State {
	switch p.Spec.State {
	case Less:
		rank := p.Shape.Ranks[i]
		return State{H: memory.float32s(rank * p.Shape.HeadDim), Z: memory.float32s(rank)}
	case Moment:
		d := p.Shape.valueDim()
		return State{KeyMean: memory.float32s(d), ValueMean: memory.float32s(d), Covariance: memory.float32s(d * d)}
	}
	return State{}
}

// parts are the numbers of a state.
func (s *State) parts() [5][]float32 {
	return [5][]float32{s.H, s.Z, s.KeyMean, s.ValueMean, s.Covariance}
}

func (s *State) size() int {
	n := 0
	for _, part := range s.parts() {
		n += len(part)
	}
	return n
}

func (s *State) clear() {
	s.Absorbed, s.Clock = 0, 0
	for _, part := range s.parts() {
		clear(part)
	}
}

func (s *State) copyFrom(other *State) {
	s.Absorbed, s.Clock = other.Absorbed, other.Clock
	from := other.parts()
	for i, part := range s.parts() {
		copy(part, from[i])
	}
}
