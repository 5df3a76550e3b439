//go:build amd64 && !linux

package cpu

// allowTiles tells that it is not known how to ask this system.
func allowTiles() bool { return false }
