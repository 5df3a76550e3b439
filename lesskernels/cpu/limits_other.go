//go:build !amd64

package cpu

// peakRounds tells that there is no such instruction here.
func peakRounds(*Pool, int) float64 { return 0 }
