//go:build !amd64

package cpu

// detect tells that only portable Go runs here.
func detect() ISA { return Portable }
