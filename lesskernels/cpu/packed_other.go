//go:build !amd64

package cpu

func (p PackedSlots) attendAssembly(ISA, []float32, []float32, []float32, []float32, []float32, int, int, float32, *Scratch) bool {
	return false
}

func (p PackedSlots) columnsAssembly(ISA, []float32, []float32, []float32, int, int, float32, Reduce, *Scratch) bool {
	return false
}

func (p PackedSlots) unpackAssembly(ISA, []float32, []float32, []uint16, *Scratch) bool { return false }
