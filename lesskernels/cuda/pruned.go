package cuda

import (
	"fmt"

	"lessrag/lesskernels/cuda/device"
)

// Pruned is how groups lie of which keys keep some channels (ThinK): see src/pruned.py. Kernels find what it says in front of the
// groups of a KV head.
type Pruned struct {
	Bits     int // of a code; 16: as they are
	Channels int // that a key keeps
	Rank     int // of ψ that a group has of its keys as they were; 0: none
}

// filled is how many channels keys are filled up to.
func (p Pruned) filled() int { return blocks(p.Channels, 16/p.Bits) * (16 / p.Bits) }

// GroupBytes is what a group takes.
func (p Pruned) GroupBytes(dim int) int {
	row := GroupTokens * p.Bits / 8 // a channel of keys, or of values
	if p.Bits < 16 {
		row += 4 // scale and minimum
	}
	return row*(p.filled()+dim) + 2*GroupTokens*p.Rank
}

// PrunedHead is how many bytes stand in front of the groups of a KV head: what Header tells, and then its channels [dim] u16, which
// are written when they have been chosen.
func PrunedHead(dim int) int { return 16 + 2*dim }

// Header is the first of them.
func (p Pruned) Header(dim int) [4]int32 {
	return [4]int32{int32(p.Channels), int32(p.GroupBytes(dim))}
}

// Ask is a block whose last queries are taken to what a sequence knows of their mean squares: the first row and how many, where in f32
// from 0 the numbers [layers, kvHeads, dim] are, and which share the new ones have of those that are known then.
type Ask struct {
	First, Rows int64
	Squares     int64
	Share       float32
	_           int32
}

// Ask takes n blocks' queries q [rows, heads, dim] bf16 to mean squares.
func (k *Kernels) Ask(s device.Stream, h Heads, q, asks device.Pointer, n, layer int) error {
	return k.launch(s, fmt.Sprintf("ask_d%d", h.Dim), device.Grid{X: n, Y: h.KVHeads, Z: 1},
		address(q), address(asks), 0, device.I32(layer), device.I32(h.Heads), device.I32(h.KVHeads))
}

// SquaresJob is some keys whose squares are added up: the first of a list of rows, and how many.
type SquaresJob struct{ First, Count int64 }

// Squares adds up squares of keys, rows of memory, by channel, to out [n, dim] f64.
func (k *Kernels) Squares(s device.Stream, h Heads, memory, jobs, rows, out device.Pointer, n int) error {
	return k.launch(s, fmt.Sprintf("squares_d%d", h.Dim), device.Grid{X: n, Y: 1, Z: 1}, address(memory), address(jobs), address(rows), address(out))
}

// Remember writes ψ of keys that are packed behind their groups, n jobs: Other is the first of their Leaving tokens.
func (k *Kernels) Remember(s device.Stream, h Heads, m *Maps, memory, jobs, leaving, turns device.Pointer, n, layer int) error {
	return k.launch(s, fmt.Sprintf("remember_d%d", h.Dim), device.Grid{X: n, Y: GroupTokens / queryTile, Z: 1},
		address(memory), address(jobs), address(leaving), address(turns),
		address(m.K1), address(m.K2), address(m.K3), address(m.Scale1), address(m.Scale2),
		device.I32(layer), device.I32(h.KVHeads), device.I32(m.Hidden), device.I32(m.Rank))
}
