//go:build !amd64

package cpu

// pause does nothing where there is no instruction for it.
func pause(uintptr) {}
