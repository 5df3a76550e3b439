package cuda

import (
	"fmt"

	"lessrag/lesskernels"
	"lessrag/lesskernels/cuda/device"
)

// MostRank is the largest rank of states that kernels take.
const MostRank = 16

const queryTile = 16 // of src/build.py: rows whose φ a program computes

// Maps are the feature maps of a layer on a device: see lesskernels.FeatureMap.
type Maps struct {
	Hidden, Rank   int
	Q1, Q2         device.Pointer // [heads, dim, hidden], [heads, hidden, rank] f32
	K1, K2, K3     device.Pointer // [kvHeads, dim, hidden], [kvHeads, hidden, rank], [kvHeads, rank, rank] f32
	Scale1, Scale2 device.Pointer // [kvHeads, rank] f32
	Rates          device.Pointer // [kvHeads, rank] f32, λ; 0 where no feature fades
}

// StateFloats is how many numbers of a device's memory the state of a KV head takes: H, z and its clock.
func StateFloats(rank, dim int) int { return rank*(dim+1) + 1 }

// MapsBytes is what maps of a shape take on a device.
func MapsBytes(s lesskernels.FeatureShape) int64 {
	keys := s.KVHeads * s.Rank
	return aligned(4*s.Heads*s.HeadDim*s.Hidden) + aligned(4*s.Heads*s.Hidden*s.Rank) + aligned(4*s.KVHeads*s.HeadDim*s.Hidden) +
		aligned(4*keys*s.Hidden) + aligned(4*keys*s.Rank) + 3*aligned(4*keys)
}

// aligned is so many bytes up to where kernels expect an address.
func aligned(n int) int64 { return int64(n+15) &^ 15 }

// PutMaps writes a layer's feature maps to memory of MapsBytes, of which its caller takes care.
func PutMaps(s device.Stream, f *lesskernels.FeatureMap, at device.Pointer) (Maps, error) {
	m := Maps{Hidden: f.Hidden, Rank: f.Rank}
	if f.Rank > MostRank {
		return m, fmt.Errorf("cuda: feature maps of rank %d, and kernels take %d at most", f.Rank, MostRank)
	}
	rates := make([]float32, f.KVHeads*f.Rank)
	for kvHead := range f.KVHeads {
		for r, rate := range f.Rates(kvHead) {
			rates[kvHead*f.Rank+r] = float32(rate)
		}
	}
	for _, part := range []struct {
		to     *device.Pointer
		values []float32
	}{{&m.Q1, f.Wq1}, {&m.Q2, f.Wq2}, {&m.K1, f.Wk1}, {&m.K2, f.Wk2}, {&m.K3, f.Wk3}, {&m.Scale1, f.S1}, {&m.Scale2, f.S2}, {&m.Rates, rates}} {
		if err := s.Upload(at, Bytes(part.values)); err != nil {
			return m, err
		}
		*part.to = at
		at += device.Pointer(aligned(4 * len(part.values)))
	}
	return m, nil
}

// States are what KV heads remember of evicted tokens: see lesskernels.LowRank.
type States struct {
	Rank   int
	Phi    device.Pointer // [rows, heads, rank] f32, φ of the queries
	Memory device.Pointer // f32: tables [layers, kvHeads] StateEntry, and states, each H [rank, dim], z [rank] and then its clock, i32: StateFloats
	Asked  device.Pointer // [rows] i64: where in Memory the table of the row's sequence begins; below 0, it asks no state
	At     device.Pointer // [rows] i32: positions
	Rates  device.Pointer // of the layer's Maps
}

// StateEntry is one KV head's in the table of a sequence.
type StateEntry struct {
	Further int32   // where its state begins, in numbers from the table's beginning; NoState, or Untouched
	Gate    float32 // added to the log-sum-exp of the state
}

// NoState in place of StateEntry.Further is a KV head without one.
const NoState = -1

// Untouched in place of StateEntry.Further is a state that will begin so much further: it has absorbed nothing, and its
// memory may hold anything.
func Untouched(further int) int32 { return int32(-2 - further) }

// Phi writes to states.Phi φ of the queries of a batch, qkv [rows, heads+2·kvHeads, dim] f32 before
// positions turn them, where rows ask states.
func (k *Kernels) Phi(s device.Stream, h Heads, m *Maps, qkv device.Pointer, states *States, rows int) error {
	return k.phi(s, "phi", h, h.KVHeads, m, qkv, states, rows)
}

// PhiTurned is Phi of queries that positions have turned, q [rows, heads, dim] bf16.
func (k *Kernels) PhiTurned(s device.Stream, h Heads, m *Maps, q device.Pointer, states *States, rows int) error {
	return k.phi(s, "phi_turned", h, 0, m, q, states, rows)
}

func (k *Kernels) phi(s device.Stream, name string, h Heads, kvHeads int, m *Maps, queries device.Pointer, states *States, rows int) error {
	return k.launch(s, fmt.Sprintf("%s_d%d", name, h.Dim), device.Grid{X: blocks(rows, queryTile), Y: h.Heads, Z: 1},
		address(queries), address(states.Asked), address(m.Q1), address(m.Q2), address(states.Phi),
		device.I32(rows), device.I32(h.Heads), device.I32(kvHeads), device.I32(m.Hidden), device.I32(m.Rank))
}

// Leaving is a token that a KV head gives up: the rows of memory where its key and value of layer 0 lie, how many
// rows further those of the next layer do, its position, and the one by which its key is turned. To Absorb, one that is turned by
// less than 0 has instead of the key ψ of it, [rank] bf16: where that is, counted in bf16 from 0.
type Leaving struct{ Key, Value, Layer, Position, Turned int64 }

// Job is what one state absorbs, always in the same order.
type Job struct {
	Table        int64 // where in the memory of states the table of the sequence begins
	KVHead       int64
	First, Count int64 // of the leaving tokens
	Newest       int64 // the highest position among the tokens
}

// Absorb adds to the states of a layer what n jobs tell. memory is where row 0 is, and turns
// [positions, dim] f32 the cos and sin of the angles that positions turned keys by.
func (k *Kernels) Absorb(s device.Stream, h Heads, m *Maps, memory, jobs, leaving, turns, states device.Pointer, n, layer int) error {
	return k.launch(s, fmt.Sprintf("absorb_d%d", h.Dim), device.Grid{X: n, Y: 1, Z: 1},
		address(memory), address(jobs), address(leaving), address(turns), address(states),
		address(m.K1), address(m.K2), address(m.K3), address(m.Scale1), address(m.Scale2), address(m.Rates),
		device.I32(layer), device.I32(h.KVHeads), device.I32(m.Hidden), device.I32(m.Rank))
}

// MomentFloats is how many numbers of a device's memory a state of moments takes: the mean of keys and that of values, the covariance
// [dim, dim], values in rows, and how many tokens it has absorbed, i32.
func MomentFloats(dim int) int { return dim*dim + 2*dim + 1 }

// AbsorbMoments adds to states of moments (arXiv 2606.01563) of a layer what n jobs tell. memory and states are as for Absorb, but
// Leaving.Turned is by which of the angles a key is turned, to where it once stood: cos and sin [·, dim/2] f32; below 0, by none.
func (k *Kernels) AbsorbMoments(s device.Stream, h Heads, memory, jobs, leaving, cos, sin, states device.Pointer, n, layer int) error {
	return k.launch(s, fmt.Sprintf("absorb_moments_d%d", h.Dim), device.Grid{X: n, Y: 1, Z: 1},
		address(memory), address(jobs), address(leaving), address(cos), address(sin), address(states), device.I32(layer), device.I32(h.KVHeads))
}

// RecallMoments writes what n rows of a batch, a list of i32, ask of states of moments as if it were a split of attention, to a.Parts
// [rows, heads, dim] and a.LSE [rows, heads]. states is as for Absorb, and asked as in States.
func (k *Kernels) RecallMoments(s device.Stream, a *Attention, list device.Pointer, n int, states, asked device.Pointer) error {
	return k.launch(s, fmt.Sprintf("recall_moments_d%d", a.Dim), device.Grid{X: n, Y: a.Heads.Heads, Z: 1},
		address(a.Q), address(list), address(states), address(asked), address(a.Parts), address(a.LSE),
		device.I32(a.Layer), device.I32(a.Rows), device.I32(a.Heads.Heads), device.I32(a.KVHeads), device.F32(a.Scale))
}

// Turn is a key that is turned anew from an exact copy: the rows of memory where both of layer 0, head 0 lie,
// and how many rows further those of the next layer and of the next head do. One that is its own copy is turned where it lies.
type Turn struct {
	Copy, CopyLayer, CopyHead int64
	Key, KeyLayer, KeyHead    int64
	Make                      int64 // 1: the copy is still to be made
	Angle                     int64 // by which of the angles
}

// Turn turns n keys of every KV head of a layer by angles, of which cos and sin [·, dim/2] are f32.
func (k *Kernels) Turn(s device.Stream, h Heads, memory, turns, cos, sin device.Pointer, n, layer int) error {
	return k.launch(s, fmt.Sprintf("turn_d%d", h.Dim), device.Grid{X: n, Y: h.KVHeads, Z: 1},
		address(memory), address(turns), address(cos), address(sin), device.I32(layer))
}
