package cuda

import (
	"fmt"
	"math"
	"slices"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cuda/device"
)

// groupCounts is how many groups each KV head has.
type groupCounts []int

// each tells of every group: the i-th of all is number number of a KV head.
func (c groupCounts) each(f func(kv, number, i int)) {
	i := 0
	for kv, n := range c {
		for number := range n {
			f(kv, number, i)
			i++
		}
	}
}

// overGroups are packed groups of two KV heads, of which the first has three or more and the second one, that are attended.
type overGroups struct {
	*rig
	h      Heads
	p      KIVI
	counts groupCounts
	table  device.Pointer // of where they are
	seen   func(kv, from, to int) (keys, values []float32)
}

// check proves attention over them, by rows of a tile and by rows alone.
func (c *overGroups) check(what string) {
	const splits = 2
	r, h, span := c.rig, c.h, c.counts[0]-1
	size := h.PackedTileQueries()
	rows := 2*size + 5
	queryBits, q := brains(r.normal(rows*h.Heads*h.Dim, 1))
	tiles := []Tile{{0, int32(size)}, {int32(rows - 1), 1}}
	for at := size; at < rows-1; at++ {
		tiles = append(tiles, Tile{int32(at), 1})
	}
	var seen []int32
	for range rows - 1 {
		seen = append(seen, int32(c.counts[0]), 1)
	}
	seen = append(seen, 2, 0)
	a := Attention{Heads: h, Scale: float32(1 / math.Sqrt(float64(h.Dim))), Layer: 1, Rows: rows, Q: put(r, queryBits), Tiles: put(r, tiles),
		Parts: put(r, nothing(splits*rows*h.Heads*h.Dim)), LSE: put(r, nothing(splits*rows*h.Heads))}
	groups, packed := put(r, slices.Repeat([]int64{int64(c.table)}, len(tiles))), put(r, seen)
	r.must(r.AttendPacked(r.s, &a, c.p, groups, packed, len(tiles), splits, span))
	out, lse := get[float32](r, a.Parts, splits*rows*h.Heads*h.Dim), get[float32](r, a.LSE, splits*rows*h.Heads)
	var want, wantLSE []float64
	var finite []float32
	for i, x := range lse {
		split, row, kv := i/h.Heads/rows, i/h.Heads%rows, i%h.Heads/h.Group()
		keys, values := c.seen(kv, split*span, min((split+1)*span, int(seen[row*h.KVHeads+kv])))
		p, _ := lesskernels.Attend(q[(row*h.Heads+i%h.Heads)*h.Dim:][:h.Dim], keys, values, float64(a.Scale))
		for _, x := range p.Out {
			want = append(want, float64(x))
		}
		if len(keys) > 0 {
			finite, wantLSE = append(finite, x), append(wantLSE, float64(p.LSE))
		} else if !math.IsInf(float64(x), -1) {
			r.t.Errorf("%+v: the log-sum-exp of nothing is %v", h, x)
		}
	}
	near(r.t, what, out, want, attentionTolerance)
	near(r.t, what+", log-sum-exps", finite, wantLSE, lseTolerance)
	for _, sight := range []Sight{Few, Last} {
		c.checkObserved(&a, sight, q, groups, packed)
	}
}

// checkObserved: what the tokens of groups get of all rows but the last, beside what those of the first have.
func (c *overGroups) checkObserved(a *Attention, what Sight, q []float32, groups, packed device.Pointer) {
	h, r, rows := a.Heads, c.rig, a.Rows-1
	room := (c.counts[0] + 2) * GroupTokens
	sums := r.normal(2*h.KVHeads*room, 1)
	want := make([]float64, len(sums))
	for i, x := range sums {
		want[i] = float64(x)
	}
	positions := make([]int32, a.Rows)
	for row := range positions {
		positions[row] = int32(40 + 11*row)
	}
	for kv := range h.KVHeads {
		keys, _ := c.seen(kv, 0, c.counts[kv])
		at := want[(h.KVHeads+kv)*room:][:len(keys)/h.Dim]
		clear(at[min(GroupTokens, len(at)):])
		for slot := range at {
			if what == Last {
				at[slot] = max(at[slot], 0)
			}
		}
		for i := range rows * h.Group() {
			row := i / h.Group()
			_, weights := lesskernels.Attend(q[(row*h.Heads+kv*h.Group()+i%h.Group())*h.Dim:][:h.Dim], keys, keys, float64(a.Scale))
			for slot, w := range weights {
				if step := float64(positions[row] + 1); what == Last && w >= 1/step {
					at[slot] = max(at[slot], step)
				} else if what != Last {
					at[slot] += w
				}
			}
		}
	}
	p := put(r, sums)
	watch := []Watch{{First: 0, Rows: int64(rows), Sums: int64(p / 4), SumsLayer: int64(h.KVHeads * room), SumsHead: int64(room), Known: 1}}
	r.must(r.ObservePacked(r.s, a, c.p, what, put(r, watch), groups, packed, 1, 2, c.counts[0]+1, put(r, positions)))
	got := get[float32](r, p, len(sums))
	near(r.t, fmt.Sprintf("what tokens of %+v in %d bits get, %s", h, c.p.Bits, what), got, want, 1e-5)
}
