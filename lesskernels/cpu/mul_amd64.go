package cpu

// mulKernel writes the 16 products of a panel with each of n tokens (n is
// fixed by the kernel) to dst, one token every stride values: x is one tile,
// units are the layout's. Where weights
// are in codes it asks for those that lie so many bytes ahead of what it reads.
type mulKernel func(dst *float32, stride uintptr, x *uint32, codes, scales *byte, units, ahead uintptr)

// mulAssembly runs the kernel for a tile; false means that there is none.
func (m *Matrix) mulAssembly(dst []float32, stride int, x []uint32, n int, panel []byte, ahead int) bool {
	steps, scales := uintptr(m.steps), &panel[m.scales]
	_ = dst[(n-1)*stride+panelRows-1]
	switch m.isa {
	case AVX512, AMX:
		mulKernelsAVX512[m.layout][n](&dst[0], uintptr(stride), &x[0], &panel[0], scales, steps, uintptr(ahead))
	case AVX2:
		if m.layout == words {
			return false
		}
		kernel := mulKernelsAVX2[m.layout][n]
		kernel(&dst[0], uintptr(stride), &x[0], &panel[0], scales, steps, 0)
		if m.layout.integer() { // the other eight rows
			kernel(&dst[8], uintptr(stride), &x[0], &panel[32], &panel[m.scales+16], steps, 0)
		}
	default:
		return false
	}
	return true
}
