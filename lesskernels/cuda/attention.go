package cuda

import (
	"fmt"

	"lessrag/lesskernels/cuda/device"
)

// Heads is the shape of attention.
type Heads struct {
	Heads   int // of queries
	KVHeads int // divides Heads
	Dim     int // 64, 128 or 256
}

// Check tells what is wrong with a shape, nil if kernels take it.
func (h Heads) Check() error {
	switch {
	case h.Dim != 64 && h.Dim != 128 && h.Dim != 256:
		return fmt.Errorf("cuda: a head dimension of %d, and kernels take 64, 128 and 256", h.Dim)
	case h.KVHeads < 1 || h.Heads%h.KVHeads != 0 || h.Group() > oneRows:
		return fmt.Errorf("cuda: %d query heads for %d KV heads, and kernels take groups of 1 to %d", h.Heads, h.KVHeads, oneRows)
	}
	return nil
}

// Group is how many query heads share a KV head.
func (h Heads) Group() int { return h.Heads / h.KVHeads }

// Rope turns queries and keys of qkv [rows, heads+2·kvHeads, dim] f32 by cos and sin
// [rows, dim/2] f32, and rounds: queries to q [rows, heads, dim], keys and values to keys
// and values [kvHeads, rows, dim], all bf16.
func (k *Kernels) Rope(s device.Stream, h Heads, qkv, cos, sin, q, keys, values device.Pointer, rows int) error {
	return k.launch(s, fmt.Sprintf("rope_d%d", h.Dim), device.Grid{X: rows, Y: h.Heads + 2*h.KVHeads, Z: 1},
		address(qkv), address(cos), address(sin), address(q), address(keys), address(values), device.I32(rows), device.I32(h.Heads), device.I32(h.KVHeads))
}

// Place is where keys and values lie: the rows of memory, of dim numbers in bf16 each, of
// the first of layer 0, KV head 0, and how many rows further those of the next layer
// and of the next head do. Where KV heads have not the same room, Layer is Uneven, and Head the address of a
// table [layers, kvHeads] i64 of how many rows further each begins. Those of one head follow one another.
type Place struct{ Key, Value, Layer, Head int64 }

// Uneven in place of Place.Layer tells that Head is a table's address.
const Uneven = -1

// After is the place of the token n further.
func (p Place) After(n int) Place {
	p.Key += int64(n)
	p.Value += int64(n)
	return p
}

// In is the place in a layer, as if there were no others.
func (p Place) In(layer int) Place {
	return Place{Key: p.Key + int64(layer)*p.Layer, Value: p.Value + int64(layer)*p.Layer, Head: p.Head}
}

// OfHead is the place in one KV head, as if there were no others, where all have the same room.
func (p Place) OfHead(head int) Place {
	return Place{Key: p.Key + int64(head)*p.Head, Value: p.Value + int64(head)*p.Head, Layer: p.Layer}
}

// Move is a token's key and value, of all KV heads of a layer, that is copied.
type Move struct{ From, To Place }

// Move copies in a layer what n moves tell, in no order: no target is another one's
// source. memory is where row 0 is.
func (k *Kernels) Move(s device.Stream, h Heads, memory, moves device.Pointer, n, layer int) error {
	return k.launch(s, fmt.Sprintf("move_d%d", h.Dim), device.Grid{X: n, Y: h.KVHeads, Z: 1}, address(memory), address(moves), device.I32(layer))
}

// Store is a row of the batch whose key and value are stored in the last slot of a place that the row sees.
type Store struct {
	Row int64
	To  Place
}

// Store stores n rows of keys and values [kvHeads, rows, dim] bf16 in a layer. a is what the rows will be attended with.
func (k *Kernels) Store(s device.Stream, a *Attention, keys, values, stores device.Pointer, n int) error {
	return k.launch(s, fmt.Sprintf("store_d%d", a.Dim), device.Grid{X: n, Y: a.KVHeads, Z: 1}, address(a.Memory), address(keys), address(values),
		address(stores), address(a.Live), device.I32(a.Layer), device.I32(a.Rows), device.I32(a.KVHeads))
}

// Mean is a key or a value that is replaced by the mean over so many rows of memory, from one of a list on: itself is
// among them.
type Mean struct{ Row, First, Count int64 }

// Mean replaces n rows of dim numbers. No row is a member of two of them. memory is where row 0 is.
func (k *Kernels) Mean(s device.Stream, h Heads, memory, means, members device.Pointer, n int) error {
	return k.launch(s, fmt.Sprintf("mean_d%d", h.Dim), device.Grid{X: n, Y: 1, Z: 1}, address(memory), address(means), address(members))
}

// Of src/build.py: rows of a tile of attention, query heads times queries.
const (
	oneRows   = 16
	blockRows = 64
	spanGrain = 64 // slots that a program takes at a step, or in two
)

// TileQueries is how many queries a tile of a block has at most.
func (h Heads) TileQueries() int { return blockRows / h.Group() }

// Attention is where attention over slots finds what it needs.
type Attention struct {
	Heads
	Scale  float32
	Layer  int
	Rows   int
	Q      device.Pointer // [rows, heads, dim] bf16
	Memory device.Pointer // where row 0 of every Place is
	Tiles  device.Pointer // [tiles] Tile
	Places device.Pointer // [tiles] Place
	Live   device.Pointer // [rows, kvHeads] i32: so many first slots the row sees
	Parts  device.Pointer // [splits, rows, heads, dim] f32, out
	LSE    device.Pointer // [splits, rows, heads] f32, out: natural
}

// Tile is some rows of the batch that follow one another and see the same slots, or the
// first of them.
type Tile struct{ First, Rows int32 }

// Attend computes tiles of one row each, or of up to TileQueries rows in a block, over
// splits spans of slots, of span slots each: together they hold all that is seen.
func (k *Kernels) Attend(s device.Stream, a *Attention, tiles int, block bool, splits, span int) error {
	name := "one"
	if block {
		name = "block"
	}
	if span < 1 || span%spanGrain != 0 {
		return fmt.Errorf("cuda: a span of %d slots is no multiple of %d", span, spanGrain)
	}
	return k.launch(s, fmt.Sprintf("attend_d%d_%s", a.Dim, name), device.Grid{X: tiles, Y: a.KVHeads, Z: splits},
		address(a.Q), address(a.Memory), address(a.Tiles), address(a.Places), address(a.Live), address(a.Parts), address(a.LSE),
		device.I32(a.Layer), device.I32(a.Rows), device.I32(a.Heads.Heads), device.I32(a.KVHeads), device.I32(span), device.F32(a.Scale))
}

// Merge joins the splits of Attend for n rows of the batch, a list of i32, to out [rows, heads, dim]
// bf16; and the states that rows ask, unless states is nil.
func (k *Kernels) Merge(s device.Stream, a *Attention, list device.Pointer, n, splits int, states *States, out device.Pointer) error {
	name, asked := fmt.Sprintf("merge_d%d", a.Dim), States{}
	if states != nil {
		name, asked = name+"_less", *states
	}
	return k.launch(s, name, device.Grid{X: n, Y: a.Heads.Heads, Z: 1},
		address(a.Parts), address(a.LSE), address(list), address(asked.Phi), address(asked.Memory), address(asked.Asked), address(asked.At), address(asked.Rates), address(out),
		device.I32(a.Layer), device.I32(a.Rows), device.I32(a.Heads.Heads), device.I32(a.KVHeads), device.I32(splits), device.I32(asked.Rank))
}

// Watch is a block whose rows' attention is observed.
type Watch struct {
	First, Rows               int64 // of the batch
	Sums, SumsLayer, SumsHead int64 // where the numbers of layer 0, head 0 begin, counted in f32 from 0, and how much further the next ones do
	Known                     int64 // so many first slots have numbers that what is observed joins; below 0, so many fewer than the first row sees. The others' begin anew
}

// Sight is what is observed of attention, and how many rows at a time.
type Sight string

// What a slot is told. Few and Block are the same, for up to 16 rows times heads of a group and for more.
const (
	Few     Sight = "one"
	Block   Sight = "block"   // what it gets, added up over rows and the heads of a group
	Most    Sight = "most"    // of each head of a group, the most that a row gives it
	Decayed Sight = "decayed" // what it gets over rows that weigh more the later they come, of the head of a group that gives most
	Last    Sight = "last"    // the last step, a row's position and one more, whose row gave it at least its equal share of all steps, of any head; 0: none
)

// Observe tells slots what they get of the attention of blocks' rows: softmax weights over all splits. a is what the
// blocks were attended with, and Places has one for each of n blocks, of which none sees more than most slots.
// Decayed, the logarithm of a row's weight grows by rise with its position.
func (k *Kernels) Observe(s device.Stream, a *Attention, what Sight, watched device.Pointer, n, splits, most int, positions device.Pointer, rise float32) error {
	return k.launch(s, fmt.Sprintf("observe_d%d_%s", a.Dim, what), device.Grid{X: blocks(most, spanGrain), Y: a.KVHeads, Z: n},
		address(a.Q), address(a.Memory), address(a.LSE), address(watched), address(a.Places), address(a.Live), address(positions), 0,
		device.I32(a.Layer), device.I32(a.Rows), device.I32(a.Heads.Heads), device.I32(a.KVHeads), device.I32(splits), device.F32(a.Scale), device.F32(rise))
}
