package cuda

import (
	"fmt"
	"math"
	"testing"
)

// What slots get of attention joins what they had, each as it is asked for.
func TestObserve(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for i, h := range headShapes {
			for j, what := range []Sight{Few, Block, Most, Decayed, Last} {
				if j < 2 || i%2 == j%2 || h.Dim == 256 {
					r.checkObserve(h, what)
				}
			}
		}
	})
}

// checkObserve: blocks in layer 1 of 2, of which some first slots have numbers, told in both ways, and one of which is seen by its last row alone.
func (r *rig) checkObserve(h Heads, what Sight) {
	block := what == Block || what == Most
	seen, rowsOf := []int{2, 63, 64, 65, 129}, func(int) int { return 1 }
	if block {
		seen, rowsOf = []int{2, 65, 100}, func(tile int) int { return h.TileQueries() + 3*tile } // more than a tile of attention
	} else if what == Decayed || what == Last {
		rowsOf = func(tile int) int { return 1 + 9*tile }
	}
	c := look(r, h, seen, rowsOf)
	whole := c.tiles
	c.cut()
	const splits, room, most, rise = 2, 200, 200, 0.01
	c.splits(splits)
	r.must(r.Attend(r.s, &c.a, len(c.tiles), block || what == Decayed || what == Last, splits, 128))
	width := 1
	if what == Most {
		width = h.Group()
	}
	positions := make([]int32, c.a.Rows)
	for row := range positions {
		positions[row] = int32(7 + 3*row)
	}
	sums := r.normal(len(seen)*2*h.KVHeads*room*width, 1)
	want := make([]float64, len(sums))
	for i, x := range sums {
		want[i] = float64(x)
	}
	var watched []Watch
	for i, tile := range whole {
		first, rows := int(tile.First), int(tile.Rows)
		if i == 1 { // the last row alone
			first, rows = first+rows-1, 1
		}
		w := Watch{First: int64(first), Rows: int64(rows), Sums: int64(i * 2 * h.KVHeads * room * width), SumsLayer: int64(h.KVHeads * room * width), SumsHead: int64(room * width), Known: int64(seen[i] / 2)}
		if i%2 == 1 {
			w.Known = -5
		}
		watched = append(watched, w)
		for kv := range h.KVHeads {
			known := int(w.Known)
			if known < 0 {
				known += int(c.live[first*h.KVHeads+kv])
			}
			at := int(w.Sums) + (h.KVHeads+kv)*room*width
			c.join(want[at:at+room*width], what, i, kv, first, rows, known, positions, rise)
		}
	}
	p := put(r, sums)
	for i := range watched {
		watched[i].Sums += int64(p / 4)
	}
	c.a.Places = put(r, c.places)
	r.must(r.Observe(r.s, &c.a, what, put(r, watched), len(watched), splits, most, put(r, positions), rise))
	near(r.t, fmt.Sprintf("attention to slots of %+v, %s", h, what), get[float32](r, p, len(sums)), want, 1e-5)
}

// join is the oracle: numbers [slots, width] of a KV head, of which some first slots are known, join what the slots of tile's sequence
// get of rows.
func (c *sight) join(numbers []float64, what Sight, tile, kv, first, rows, known int, positions []int32, rise float64) {
	h := c.a.Heads
	group, width := h.Group(), 1
	if what == Most {
		width = group
	}
	last := int(c.live[(first+rows-1)*h.KVHeads+kv])
	got := make([][]float64, group) // [group][slots]
	for g := range group {
		got[g] = make([]float64, last)
		head := kv*group + g
		for row := first; row < first+rows; row++ {
			weights, whole := make([]float64, c.live[row*h.KVHeads+kv]), 0.0
			for slot := range weights {
				dot := 0.0
				for j, x := range c.q[(row*h.Heads+head)*h.Dim:][:h.Dim] {
					dot += float64(x) * float64(c.k[tile*h.KVHeads+kv][slot*h.Dim+j])
				}
				weights[slot] = math.Exp(dot * float64(c.a.Scale))
				whole += weights[slot]
			}
			for slot, w := range weights {
				switch w /= whole; what {
				case Most:
					got[g][slot] = max(got[g][slot], w)
				case Decayed:
					got[g][slot] += w * math.Exp(rise*float64(positions[row]))
				case Last:
					if step := float64(positions[row] + 1); w >= 1/step {
						got[g][slot] = max(got[g][slot], step)
					}
				default:
					got[g][slot] += w
				}
			}
		}
	}
	for slot := range last {
		if slot >= known {
			clear(numbers[slot*width : (slot+1)*width])
		}
		most := 0.0
		for g := range group {
			switch x := got[g][slot]; what {
			case Most:
				numbers[slot*group+g] = max(numbers[slot*group+g], x)
			case Decayed:
				most = max(most, x)
			case Last:
				numbers[slot] = max(numbers[slot], x)
			default:
				numbers[slot] += x
			}
		}
		if what == Decayed {
			numbers[slot] += most
		}
	}
}
