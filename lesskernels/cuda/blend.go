package cuda

import (
	"fmt"

	"lessrag/lesskernels/cuda/device"
)

// Gather copies row list[i] of from to row i of to, rows rows of bytes each, a multiple of 4; list [rows] i32.
func (k *Kernels) Gather(s device.Stream, from, to, list device.Pointer, rows, bytes int) error {
	return k.pick(s, "gather", from, to, list, rows, bytes)
}

// Scatter copies row i of from to row list[i] of to.
func (k *Kernels) Scatter(s device.Stream, from, to, list device.Pointer, rows, bytes int) error {
	return k.pick(s, "scatter", from, to, list, rows, bytes)
}

func (k *Kernels) pick(s device.Stream, name string, from, to, list device.Pointer, rows, bytes int) error {
	if bytes%4 != 0 {
		return fmt.Errorf("cuda: %s of rows of %d bytes, and a word has 4", name, bytes)
	}
	return k.launch(s, name, device.Grid{X: rows, Y: 1, Z: 1}, address(from), address(to), address(list), device.I32(bytes/4))
}

// Deviation is how far a row's keys and values are from those that were stored of its token, over the KV heads of a layer.
type Deviation struct {
	KeyApart, ValueApart float32 // squared distances
	KeySize, ValueSize   float32 // squared lengths of the row's
}

// Deviate writes to out a Deviation for each of rows rows of keys and values [kvHeads, rows, dim] bf16, from what lies in a
// layer of a Place, whose tokens lie in the order of their positions [rows] i32. memory is where row 0 is.
func (k *Kernels) Deviate(s device.Stream, h Heads, memory, keys, values, place, positions, out device.Pointer, rows, layer int) error {
	return k.launch(s, fmt.Sprintf("deviate_d%d", h.Dim), device.Grid{X: rows, Y: 1, Z: 1},
		address(memory), address(keys), address(values), address(place), address(positions), address(out), device.I32(layer), device.I32(rows), device.I32(h.KVHeads))
}
