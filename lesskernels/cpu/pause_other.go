//go:build !amd64

package cpu

// pause does nothing where there is no instruction for it.
func pause(uintptr) {}

// prefetch leaves it to the processor.
func prefetch(*byte, uintptr) {}
