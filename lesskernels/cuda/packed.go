package cuda

import (
	"fmt"

	"lessrag/lesskernels/cuda/device"
)

// KIVI tells how keys and values that are no longer recent are stored: in groups of GroupTokens of a KV head, in codes of
// so many bits, as cpu.Packing packs them.
type KIVI struct {
	Bits   int
	Pruned bool // keys keep some channels: see Pruned; of 16 bits, that is all
}

// name is that of a kernel for a head dimension.
func (p KIVI) name(what string, h Heads) string {
	if p.Pruned {
		return fmt.Sprintf("%s_d%d_%d_pruned", what, h.Dim, p.Bits)
	}
	return fmt.Sprintf("%s_d%d_%d", what, h.Dim, p.Bits)
}

// GroupTokens is how many tokens a group has.
const GroupTokens = 32

// packedRows is how many query heads times queries a tile over packed groups has. A KV head of more query heads has
// several programs; of 16 bits, one that has room for twice as many.
const packedRows = 8

// observedGroups is how many groups a program looks at that tells their tokens what they get: SPAN of src/observe_packed.py.
const observedGroups = 16

// GroupBytes is what a group takes whose keys keep all channels.
func (p KIVI) GroupBytes(dim int) int { return 8 * dim * (p.Bits + 1) }

// PackedTileQueries is how many queries a tile over packed groups has at most.
func (h Heads) PackedTileQueries() int { return max(1, packedRows/h.Group()) }

// PackJob is a group that is packed, unpacked or moved: the address of its sequence's table [layers, kvHeads] i64, which
// tells where the first group of each KV head is, its KV head, and its number. Other is: to pack, which is the first of its
// Packings; to unpack, the first of twice GroupTokens rows of memory, for keys and then for values; to move, the number it gets.
type PackJob struct{ Table, KVHead, Group, Other int64 }

// PackRow is a token that is packed: the rows of memory where its key and value of layer 0 lie, and how many rows further
// those of the next layer do.
type PackRow struct{ Key, Value, Layer int64 }

func (k *Kernels) packs(s device.Stream, what string, h Heads, p KIVI, y, n, layer int, args ...device.Pointer) error {
	var list []uint64
	for _, a := range args {
		list = append(list, address(a))
	}
	list = append(list, device.I32(layer), device.I32(h.KVHeads), device.I32(p.GroupBytes(h.Dim)))
	return k.launch(s, what, device.Grid{X: n, Y: y, Z: 1}, list...)
}

// Pack packs n groups of a layer. memory is where row 0 is, and of each job there are GroupTokens rows.
func (k *Kernels) Pack(s device.Stream, h Heads, p KIVI, memory, jobs, rows device.Pointer, n, layer int) error {
	return k.packs(s, p.name("pack", h), h, p, 2, n, layer, memory, jobs, rows)
}

// Unpack writes the keys and values that n groups of a layer stand for to rows of memory.
func (k *Kernels) Unpack(s device.Stream, h Heads, p KIVI, memory, jobs device.Pointer, n, layer int) error {
	return k.packs(s, p.name("unpack", h), h, p, 2, n, layer, memory, jobs)
}

// Shift copies n groups of a layer, in no order: no target is another one's source.
func (k *Kernels) Shift(s device.Stream, h Heads, p KIVI, jobs device.Pointer, n, layer int) error {
	what := "shift"
	if p.Pruned {
		what = fmt.Sprintf("shift_d%d_pruned", h.Dim)
	}
	return k.packs(s, what, h, p, 1, n, layer, jobs)
}

// AttendPacked computes tiles of up to PackedTileQueries rows over splits spans of groups, of span groups each. Of a, Places and
// Live are not used: groups [tiles] i64 are the addresses of the tables of groups, and packed [rows, kvHeads] i32 is how many
// first groups the row sees, as many as all of its tile.
func (k *Kernels) AttendPacked(s device.Stream, a *Attention, p KIVI, groups, packed device.Pointer, tiles, splits, span int) error {
	heads := a.KVHeads
	if p.Bits < 16 {
		heads *= blocks(a.Group(), packedRows)
	}
	return k.launch(s, p.name("attend_packed", a.Heads), device.Grid{X: tiles, Y: heads, Z: splits},
		address(a.Q), address(a.Tiles), address(groups), address(packed), address(a.Parts), address(a.LSE),
		device.I32(a.Layer), device.I32(a.Rows), device.I32(a.Heads.Heads), device.I32(a.KVHeads), device.I32(span), device.I32(p.GroupBytes(a.Dim)), device.F32(a.Scale))
}

// ObservePacked is Observe over packed groups, of Few, Block or Last; Known is counted in groups, and below 0 all are known. None
// of n blocks sees more than most groups.
func (k *Kernels) ObservePacked(s device.Stream, a *Attention, p KIVI, what Sight, watched, groups, packed device.Pointer, n, splits, most int, positions device.Pointer) error {
	last := 0
	if what == Last {
		last = 1
	}
	if p.Bits < 16 {
		most = blocks(most, observedGroups)
	}
	return k.launch(s, p.name("observe_packed", a.Heads), device.Grid{X: most, Y: a.KVHeads, Z: n},
		address(a.Q), address(a.LSE), address(watched), address(groups), address(packed), address(positions), 0,
		device.I32(a.Layer), device.I32(a.Rows), device.I32(a.Heads.Heads), device.I32(a.KVHeads), device.I32(splits), device.I32(p.GroupBytes(a.Dim)), device.F32(a.Scale), device.I32(last))
}
