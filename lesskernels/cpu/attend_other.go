//go:build !amd64

package cpu

// assembly tells that there are no kernels here.
func (a attention) assembly(ISA, *Scratch) bool { return false }

// assemblyRow tells that there are no kernels here.
func (a attention) assemblyRow(ISA, []float32, []float32, *Scratch) bool { return false }
