//go:build !amd64

package cpu

func addProduct(_ ISA, c, a, b Strided, m, n, k int) { addProductPortable(c, a, b, m, n, k) }

func geluSlopeFor(_ ISA, dst, slope, x []float32) { geluSlope(dst, slope, x) }
