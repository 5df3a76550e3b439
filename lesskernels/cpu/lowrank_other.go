//go:build !amd64

package cpu

// There are no kernels here: no column is done.

func absorbAssembly(ISA, []float32, []float32, []uint16, int, int) int { return 0 }

func queryRowAssembly(ISA, []float32, []float32, []float32, float32, float32) int { return 0 }

func mixAssembly(ISA, []float32, []float32, float32, float32) int { return 0 }
