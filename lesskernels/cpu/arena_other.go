//go:build !linux

package cpu

// adviseHuge does nothing where the system decides by itself.
func adviseHuge([]byte) {}
