package cache

import "math"

// corm is CORM (arXiv 2404.15949): cache optimisation with recent messages. At step
// t a key is important if a query head of the group gives it at least 1/t, of softmax
// over what is held. A key goes that no query of the last 256 found important, but for
// the most recent 256, or half of the budget if that is less. So a sequence may hold
// less than its budget; where the rule would keep more, the sinks and the recent
// tokens stay, and of the others those that were important last, the later of equals.
type corm struct {
	window int // queries
}

const (
	cormWindow = 256
	cormRecent = 256
)

func (corm) Grain() Grain          { return PerHead }
func (corm) Minimum() int          { return SinkTokens + 1 }
func (corm) Observes() Observation { return Observation{Rows: EveryRow, Reduce: Last} }
func (corm) Eager() bool           { return true }

// Decide reads the last step at which a token was important from s.Attention.
func (p corm) Decide(kept []int32, s Statistics) []int32 {
	recent := s.Position - min(cormRecent, s.Keep/2)
	for i, position := range s.Positions {
		if int(position) >= recent || int(s.Attention[i]) > s.Position-p.window {
			kept = append(kept, int32(i))
		}
	}
	if len(kept) <= s.Keep {
		return kept
	}
	scores := make([]float32, len(kept))
	for j, i := range kept {
		position := int(s.Positions[i])
		if scores[j] = s.Attention[i]; position < SinkTokens || position >= recent {
			scores[j] = float32(math.Inf(1))
		}
	}
	chosen := Keep(make([]int32, 0, s.Keep), scores, s.Keep, make([]int32, len(kept)))
	for j, at := range chosen {
		kept[j] = kept[at]
	}
	return kept[:len(chosen)]
}
