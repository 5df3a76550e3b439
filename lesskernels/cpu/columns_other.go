//go:build !amd64

package cpu

// assembly tells that there are no kernels here.
func (c columns) assembly(ISA, *Scratch) bool { return false }

func raise(_ ISA, dst, x []float32) { raiseRow(dst, x) }

// columns is never called: no segment has lanes.
func (w *Weights) columns(*segmentWeights, []float32, []float32, *Scratch) {}
