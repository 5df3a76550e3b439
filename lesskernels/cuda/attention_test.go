package cuda

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cuda/device"
)

const (
	attentionTolerance = 4e-3 // of outputs, which are bf16
	lseTolerance       = 1e-6
)

// headShapes are all that kernels take, and groups of every kind.
var headShapes = func() (list []Heads) {
	for _, dim := range []int{64, 128} {
		for _, group := range []int{1, 3, 4, 8} {
			list = append(list, Heads{Heads: 2 * group, KVHeads: 2, Dim: dim})
		}
	}
	return append(list, Heads{Heads: 6, KVHeads: 2, Dim: 256}, Heads{Heads: 16, KVHeads: 2, Dim: 256})
}()

func TestRope(t *testing.T) {
	const rows = 3
	onEach(t, func(t *testing.T, r *rig) {
		for _, h := range headShapes {
			heads := h.Heads + 2*h.KVHeads
			qkv := r.normal(rows*heads*h.Dim, 1)
			var cos, sin []float32
			for i := range rows * h.Dim / 2 {
				s, c := math.Sincos(float64(i) * 0.7)
				cos, sin = append(cos, float32(c)), append(sin, float32(s))
			}
			q, k, v := put(r, make([]uint16, rows*h.Heads*h.Dim)), put(r, make([]uint16, rows*h.KVHeads*h.Dim)), put(r, make([]uint16, rows*h.KVHeads*h.Dim))
			r.must(r.Rope(r.s, h, put(r, qkv), put(r, cos), put(r, sin), q, k, v, rows))
			wantQ := make([]float64, 0, rows*h.Heads*h.Dim)
			wantK, wantV := make([]float64, rows*h.KVHeads*h.Dim), make([]float64, rows*h.KVHeads*h.Dim) // [kvHeads, rows, dim]
			for row := range rows {
				for head := range heads {
					x := qkv[(row*heads+head)*h.Dim:][:h.Dim]
					for i := range h.Dim / 2 {
						a, b := float64(x[2*i]), float64(x[2*i+1])
						c, s := float64(cos[row*h.Dim/2+i]), float64(sin[row*h.Dim/2+i])
						switch kv := head - h.Heads; {
						case kv < 0:
							wantQ = append(wantQ, a*c-b*s, a*s+b*c)
						case kv < h.KVHeads:
							copy(wantK[(kv*rows+row)*h.Dim+2*i:], []float64{a*c - b*s, a*s + b*c})
						default:
							copy(wantV[((kv-h.KVHeads)*rows+row)*h.Dim+2*i:], []float64{a, b})
						}
					}
				}
			}
			near(t, fmt.Sprintf("queries of %+v", h), fromBrains(get[uint16](r, q, len(wantQ))), wantQ, roundedTo)
			near(t, fmt.Sprintf("keys of %+v", h), fromBrains(get[uint16](r, k, len(wantK))), wantK, roundedTo)
			near(t, fmt.Sprintf("values of %+v", h), fromBrains(get[uint16](r, v, len(wantV))), wantV, roundedTo)
		}
	})
}

// sight is a case of attention: every tile has slabs of its own and so many rows, of
// which each sees one slot more than the one before.
type sight struct {
	*rig
	a      Attention
	tiles  []Tile
	places []Place        // of tiles
	live   []int32        // [rows, kvHeads]
	q      []float32      // [rows, heads, dim]
	k, v   [][]float32    // [tiles·kvHeads][slots, dim]
	list   device.Pointer // of all rows, the last first
	out    device.Pointer
}

// look makes a case, in layer 1 of 2: seen[i] is what the first row of tile i sees.
func look(r *rig, h Heads, seen []int, rowsOf func(tile int) int) *sight {
	c := &sight{rig: r, a: Attention{Heads: h, Scale: float32(1 / math.Sqrt(float64(h.Dim))), Layer: 1}}
	var memory []uint16
	var places []Place
	dead := func(rows int) { // as many as a kernel takes at a step, and more
		for range rows * h.Dim {
			memory = append(memory, 0x7fc0)
		}
	}
	for i, n := range seen {
		count := rowsOf(i)
		c.tiles = append(c.tiles, Tile{int32(c.a.Rows), int32(count)})
		for row := range count {
			for kv := range h.KVHeads {
				c.live = append(c.live, int32(max(0, n+row-kv))) // heads need not hold the same
			}
		}
		slots := n + count + 70 // of a head; keys of all heads of both layers come before values
		place := Place{Key: int64(len(memory) / h.Dim), Layer: int64(h.KVHeads * slots), Head: int64(slots)}
		place.Value = place.Key + 2*place.Layer
		if i%2 == 1 { // as where heads have not the same room
			var begin []int64
			for at := range 2 * h.KVHeads {
				begin = append(begin, int64(at*slots))
			}
			places = append(places, Place{Key: place.Key, Value: place.Value, Layer: Uneven, Head: int64(put(r, begin))})
		} else {
			places = append(places, place)
		}
		for _, part := range []*[][]float32{&c.k, &c.v} {
			dead(int(place.Layer))
			for kv := range h.KVHeads {
				lives := max(0, n+count-1-kv)
				bits, values := brains(r.normal(lives*h.Dim, 1))
				memory, *part = append(memory, bits...), append(*part, values)
				dead(slots - lives)
			}
		}
		c.a.Rows += count
	}
	bits, q := brains(r.normal(c.a.Rows*h.Heads*h.Dim, 1))
	c.q = q
	c.a.Q, c.a.Memory = put(r, bits), put(r, memory)
	c.places = places
	c.a.Tiles, c.a.Places, c.a.Live = put(r, c.tiles), put(r, places), put(r, c.live)
	var list []int32
	for row := range c.a.Rows {
		list = append(list, int32(c.a.Rows-1-row))
	}
	c.list = put(r, list)
	c.out = put(r, make([]uint16, c.a.Rows*h.Heads*h.Dim))
	return c
}

// cut attends tiles of more rows than a kernel takes in several.
func (c *sight) cut() {
	var tiles []Tile
	var places []Place
	for i, tile := range c.tiles {
		for size := int32(c.a.TileQueries()); tile.Rows > 0; tile.First, tile.Rows = tile.First+size, tile.Rows-size {
			tiles, places = append(tiles, Tile{tile.First, min(size, tile.Rows)}), append(places, c.places[i])
		}
	}
	c.tiles = tiles
	c.a.Tiles, c.a.Places = put(c.rig, tiles), put(c.rig, places)
}

// splits takes room for partial results.
func (c *sight) splits(n int) {
	c.a.Parts = put(c.rig, nothing(n*c.a.Rows*c.a.Heads.Heads*c.a.Dim))
	c.a.LSE = put(c.rig, nothing(n*c.a.Rows*c.a.Heads.Heads))
}

// eachQuery gives the oracle of each row and head over slots from…to.
func (c *sight) eachQuery(from, to int, f func(row, head, kv int, p lesskernels.Partial)) {
	h := c.a.Heads
	for tile, rows := range c.tiles {
		for row := rows.First; row < rows.First+rows.Rows; row++ {
			for head := range h.Heads {
				kv := head / h.Group()
				sees := min(to, int(c.live[int(row)*h.KVHeads+kv]))
				at := min(from, sees)
				k, v := c.k[tile*h.KVHeads+kv], c.v[tile*h.KVHeads+kv]
				q := c.q[(int(row)*h.Heads+head)*h.Dim:][:h.Dim]
				p, _ := lesskernels.Attend(q, k[at*h.Dim:sees*h.Dim], v[at*h.Dim:sees*h.Dim], float64(c.a.Scale))
				f(int(row), head, kv, p)
			}
		}
	}
}

// check compares outputs, and log-sum-exps where lse is not nil. A segment that is
// empty must say so exactly.
func (c *sight) check(what string, from, to int, out, lse []float32) {
	c.t.Helper()
	var want, wantLSE []float64
	var finite []float32
	i := 0
	c.eachQuery(from, to, func(_, _, _ int, p lesskernels.Partial) {
		for _, x := range p.Out {
			want = append(want, float64(x))
		}
		if lse != nil && math.IsInf(float64(p.LSE), -1) {
			if !math.IsInf(float64(lse[i]), -1) {
				c.t.Errorf("%s: log-sum-exp %d of nothing is %v", what, i, lse[i])
			}
		} else if lse != nil {
			wantLSE, finite = append(wantLSE, float64(p.LSE)), append(finite, lse[i])
		}
		i++
	})
	near(c.t, what, out, want, attentionTolerance)
	if lse != nil {
		near(c.t, what+", log-sum-exps", finite, wantLSE, lseTolerance)
	}
}

// liveCounts end before, at and after every edge of a kernel's steps of 64 slots.
var liveCounts = []int{1, 2, 15, 16, 17, 63, 64, 65, 66, 127, 128, 129, 191, 192, 193, 250}

func TestAttend(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, h := range headShapes {
			for _, block := range []bool{false, true} {
				t.Run(fmt.Sprintf("dim %d, group %d, block %v", h.Dim, h.Group(), block), func(t *testing.T) {
					r.in(t).checkAttend(h, block)
				})
			}
		}
	})
}

func (r *rig) checkAttend(h Heads, block bool) {
	seen, rowsOf := liveCounts, func(int) int { return 1 }
	if block {
		seen = []int{1, 63, 65, 120}
		rowsOf = func(tile int) int { return max(1, h.TileQueries()-tile) }
	}
	c := look(r, h, seen, rowsOf)
	for _, splits := range []int{1, 3} {
		span := (400/splits + 63) / 64 * 64
		c.splits(splits)
		r.must(r.Attend(r.s, &c.a, len(c.tiles), block, splits, span))
		n := c.a.Rows * h.Heads
		parts, lse := get[float32](r, c.a.Parts, splits*n*h.Dim), get[float32](r, c.a.LSE, splits*n)
		for s := range splits {
			c.check(fmt.Sprintf("split %d of %d", s, splits), s*span, (s+1)*span, parts[s*n*h.Dim:][:n*h.Dim], lse[s*n:][:n])
		}
		r.must(r.Merge(r.s, &c.a, c.list, c.a.Rows, splits, nil, c.out))
		c.check(fmt.Sprintf("%d splits merged", splits), 0, math.MaxInt, fromBrains(get[uint16](r, c.out, n*h.Dim)), nil)
	}
}

// Tokens move between places of different shape, and nothing else does.
func TestMove(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, h := range []Heads{{6, 2, 64}, {3, 3, 128}} {
			const rows, layer = 100, 1
			memory := make([]uint16, rows*h.Dim)
			for i := range memory {
				memory[i] = uint16(r.random.Uint32())
			}
			scratch := Place{Key: 0, Value: 20, Layer: 0, Head: 5}
			slab := Place{Key: 40, Value: 70, Layer: 12, Head: 4}
			moves := []Move{{scratch.After(3), slab}, {scratch.After(1), slab.After(2)}, {slab.After(3), slab.After(1)}}
			want := append([]uint16(nil), memory...)
			for _, m := range moves {
				for head := range h.KVHeads {
					row := func(first, step int64, p Place) int64 { return first + step*p.Layer + int64(head)*p.Head }
					copy(want[row(m.To.Key, layer, m.To)*int64(h.Dim):][:h.Dim], memory[row(m.From.Key, layer, m.From)*int64(h.Dim):])
					copy(want[row(m.To.Value, layer, m.To)*int64(h.Dim):][:h.Dim], memory[row(m.From.Value, layer, m.From)*int64(h.Dim):])
				}
			}
			p := put(r, memory)
			r.must(r.Move(r.s, h, p, put(r, moves), len(moves), layer))
			if !slices.Equal(get[uint16](r, p, len(memory)), want) {
				t.Errorf("%+v: other tokens", h)
			}
		}
	})
}

// A row's key and value go to the last slot that the row sees, and nowhere else.
func TestStore(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, h := range []Heads{{6, 2, 64}, {3, 3, 128}, {2, 2, 256}} {
			const rows, slots, layers, layer = 5, 40, 3, 1
			bits := func(n int) []uint16 {
				x := make([]uint16, n*h.Dim)
				for i := range x {
					x[i] = uint16(r.random.Uint32())
				}
				return x
			}
			keys, values, memory := bits(h.KVHeads*rows), bits(h.KVHeads*rows), bits(2*layers*h.KVHeads*slots)
			var live []int32
			var begin []int64
			for range rows * h.KVHeads {
				live = append(live, 1+r.random.Int32N(20))
			}
			for i := range layers * h.KVHeads {
				begin = append(begin, int64(r.random.IntN(8)+i*slots))
			}
			even := Place{Key: 3, Value: int64(layers*h.KVHeads*slots) + 1, Layer: int64(h.KVHeads * slots), Head: slots}
			uneven := Place{Key: 20, Value: int64(layers * h.KVHeads * slots), Layer: Uneven, Head: int64(put(r, begin))}
			stores := []Store{{0, even}, {4, uneven}, {2, even.After(1)}}
			want := slices.Clone(memory)
			for i, m := range stores {
				for kv := range h.KVHeads {
					at := (layer*h.KVHeads + kv) * slots
					if i == 1 {
						at = int(begin[layer*h.KVHeads+kv])
					}
					at += int(live[int(m.Row)*h.KVHeads+kv]) - 1
					from := (kv*rows + int(m.Row)) * h.Dim
					copy(want[(int(m.To.Key)+at)*h.Dim:][:h.Dim], keys[from:])
					copy(want[(int(m.To.Value)+at)*h.Dim:][:h.Dim], values[from:])
				}
			}
			a := Attention{Heads: h, Layer: layer, Rows: rows, Memory: put(r, memory), Live: put(r, live)}
			r.must(r.Store(r.s, &a, put(r, keys), put(r, values), put(r, stores), len(stores)))
			if !slices.Equal(get[uint16](r, a.Memory, len(memory)), want) {
				t.Errorf("%+v: other tokens", h)
			}
		}
	})
}

// Rows are replaced by means of rows, and nothing else is.
func TestMean(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig) {
		for _, h := range []Heads{{6, 2, 64}, {3, 3, 128}, {2, 2, 256}} {
			bits, x := brains(r.normal(50*h.Dim, 1))
			members := []int64{4, 3, 5, 9, 40, 41, 30, 49, 20}
			means := []Mean{{3, 0, 3}, {9, 3, 1}, {30, 4, 5}}
			want := make([]float64, len(x))
			for i, v := range x {
				want[i] = float64(v)
			}
			for _, m := range means {
				for d := range h.Dim {
					sum := 0.0
					for _, row := range members[m.First : m.First+m.Count] {
						sum += float64(x[int(row)*h.Dim+d])
					}
					want[int(m.Row)*h.Dim+d] = sum / float64(m.Count)
				}
			}
			p := put(r, bits)
			r.must(r.Mean(r.s, h, p, put(r, means), put(r, members), len(means)))
			near(t, fmt.Sprintf("means of %+v", h), fromBrains(get[uint16](r, p, len(x))), want, roundedTo)
		}
	})
}

func TestHeadsCheck(t *testing.T) {
	for h, want := range map[Heads]bool{{9, 3, 64}: true, {32, 2, 128}: true, {9, 2, 64}: false, {8, 0, 64}: false, {34, 2, 64}: false, {8, 8, 96}: false, {8, 8, 256}: true, {8, 8, 512}: false} {
		if err := h.Check(); (err == nil) != want {
			t.Errorf("%+v: %v", h, err)
		}
	}
}
