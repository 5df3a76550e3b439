package cpu

// unpackKernels are by layout.
var unpackKernels = [...]func(dst, codes *byte, units uintptr){
	nibbles:      unpackNibblesAMX,
	nibblesMin:   unpackNibblesMinAMX,
	octets:       unpackOctetsAMX,
	octetsMin:    unpackOctetsMinAMX,
	octetsHalves: unpackOctetsHalvesAMX,
}

// unpack writes a panel as mulLines reads it.
func (m *Matrix) unpack(r *lineRoom, panel []byte) {
	unpackKernels[m.layout](&r.panel[0], &panel[0], uintptr(m.steps))
}

// mulLines writes the 16 products of an unpacked panel with each of the rows of tiles of
// lines to dst, one row every stride values.
func (m *Matrix) mulLines(dst []float32, stride int, x []uint32, tiles int, r *lineRoom) {
	kernel := mulLinesAMX
	switch m.layout {
	case nibblesMin, octetsMin:
		kernel = mulLinesMinAMX
	case octetsHalves:
		kernel = mulLinesHalvesAMX
	}
	_, _ = dst[(tiles*lineRows-1)*stride+panelRows-1], x[tiles*lineRows*m.steps*lineWords-1]
	kernel(&dst[0], uintptr(stride), &x[0], uintptr(tiles), &r.panel[0], uintptr(m.steps), &r.dots[0])
}
