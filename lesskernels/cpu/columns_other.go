//go:build !amd64

package cpu

// assembly tells that there are no kernels here.
func (c columns) assembly(ISA, *Scratch) bool { return false }

func raise(_ ISA, dst, x []float32) { raiseRow(dst, x) }
