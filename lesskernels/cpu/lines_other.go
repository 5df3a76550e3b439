//go:build !amd64

package cpu

// There is no AMX here, and nothing in lines.

func (m *Matrix) unpack(*lineRoom, []byte) { panic("cpu: no AMX") }

func (m *Matrix) mulLines([]float32, int, []uint32, int, *lineRoom) { panic("cpu: no AMX") }
