//go:build !amd64

package cpu

// pause does nothing where there is no instruction for it.
func pause(uintptr) {}

// prefetch does nothing where there is no instruction for it.
func prefetch(*byte, uintptr) {}
