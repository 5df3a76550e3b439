//go:build !amd64

package cpu

// attendAssembly tells that there are no kernels here.
func attendAssembly(ISA, []float32, []float32, []float32, []uint16, []uint16, int, int, []int32, float32, *Scratch) bool {
	return false
}
