package cache

// tova keeps the tokens that the newest query attends to most, on average over
// all query heads of the layer: Token Omission Via Attention (arXiv 2401.06104).
// A layer has one set; neither sinks nor recent tokens are protected.
type tova struct{}

func (tova) Grain() Grain          { return PerLayer }
func (tova) Minimum() int          { return 1 }
func (tova) Observes() Observation { return Observation{Rows: NewestRow, Reduce: Sum} }

func (tova) Score(scores []float32, s Statistics) { copy(scores, s.Attention) }
