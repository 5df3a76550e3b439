package cache

import "slices"

// cascade is the Cascading KV cache (arXiv 2406.17808): behind the sinks lie
// sub-caches, of which number i accepts every 2^i-th token. They are of equal size, so that
// they reach back (2^rings − 1)/rings times as far as they have room, until that size is
// cascadeWidth; what room there is beyond goes to the first. The paper has them equal at
// every size, but where much fits, recent tokens are worth more than old ones thinned.
// A token that leaves a full sub-cache goes on to the next; where that one does not
// accept it, it takes the place of the newest token there if it got at least as much
// attention, and is lost otherwise. Attention is an average that decays, of the query heads of the group the
// largest, block by block. Tokens are numbered anew. They wait behind the first
// sub-cache while the budget has room for them, and are then inserted one by one.
type cascade struct {
	rings int
}

const (
	cascadeRings = 4
	cascadeWidth = 48 // tokens of a sub-cache that thins
)

func (cascade) Grain() Grain          { return PerHead }
func (p cascade) Minimum() int        { return SinkTokens + p.rings }
func (cascade) Observes() Observation { return Observation{Rows: EveryRow, Reduce: Decayed} }
func (cascade) Eager() bool           { return false }

// Decide inserts the tokens that came since the last decision.
func (p cascade) Decide(kept []int32, s Statistics) []int32 {
	n := len(s.Positions)
	for i := range min(n, SinkTokens) {
		kept = append(kept, int32(i))
	}
	if n <= SinkTokens {
		return kept
	}
	widths := p.widths(s.Keep - SinkTokens)
	inserted := n
	for inserted > SinkTokens && int(s.Positions[inserted-1]) >= s.Decided {
		inserted--
	}
	rings := p.held(int32(inserted), s.Decided-SinkTokens, widths)
	for i := inserted; i < n; i++ {
		p.insert(rings, int32(i), int(s.Positions[i])-SinkTokens+1, widths, s.Attention)
	}
	for i := p.rings - 1; i >= 0; i-- {
		kept = append(kept, rings[i]...)
	}
	return kept
}

// widths are the sizes of the sub-caches that share so many tokens.
func (p cascade) widths(tokens int) []int {
	widths := slices.Repeat([]int{min(tokens/p.rings, cascadeWidth)}, p.rings)
	if thinned := (p.rings - 1) * widths[0]; widths[0] == cascadeWidth {
		widths[0] = tokens - thinned
	}
	return widths
}

// held are the indices that lie in each sub-cache, oldest first, when so many of a
// sequence's tokens have been inserted, the last of them at index end-1. How many
// there are in each does not depend on scores: the first token enters sub-cache i at
// step first, and one more at every later multiple of 2^i.
func (p cascade) held(end int32, inserted int, widths []int) [][]int32 {
	rings := make([][]int32, p.rings)
	first := 1
	for i := range rings {
		size := 0
		if inserted >= first {
			size = min(widths[i], 1+inserted>>i-first>>i)
		}
		for at := max(SinkTokens, end-int32(size)); at < end; at++ {
			rings[i] = append(rings[i], at)
		}
		end -= int32(len(rings[i]))
		first = (first>>i + widths[i]) << i
	}
	return rings
}

// insert puts token into the sub-caches at a step, counted from 1 behind the sinks.
func (p cascade) insert(rings [][]int32, token int32, step int, widths []int, scores []float32) {
	for i := range rings {
		ring := rings[i]
		accepts := step%(1<<i) == 0
		switch newest := len(ring) - 1; {
		case accepts && len(ring) < widths[i] || len(ring) == 0:
			rings[i] = append(ring, token)
			return
		case accepts:
			rings[i] = append(ring[1:], token)
			token = ring[0]
		case scores[token] >= scores[ring[newest]]:
			ring[newest] = token
			return
		default:
			return
		}
	}
}
