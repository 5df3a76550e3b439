//go:build !amd64

package cpu

// rowsFor returns the only functions there are here.
func rowsFor(ISA) *rowKernels { return &portableRows }
