// Package device is what the CUDA decoder asks of a card: memory, copies, modules of
// kernels, launches in order on a stream, and graphs that repeat them. Open gives a
// card of the driver, which is loaded when the program runs; the interpreter of
// lesskernels/cuda/ptx is its twin in tests. devicetest holds what both must keep.
package device

import (
	"fmt"
	"math"
)

// Pointer is an address in a device's memory. 0 is none.
type Pointer uint64

// Device is one card. It may be used by any goroutine, by one at a time.
type Device interface {
	Info() (Info, error)
	Alloc(bytes int64) (Pointer, error) // at a multiple of 256; what it holds is undefined
	Free(Pointer) error
	Load(ptx string) (Module, error)
	NewStream() (Stream, error)
	Close() error // after all that was made with it

	// Reopen begins anew after ErrLost: what was made with the device and all that its memory held are gone, and must
	// not be given back.
	Reopen() error
}

// Module is a compiled PTX text.
type Module interface {
	Function(Signature) (Function, error)
	Unload() error
}

// Function is a kernel of the device that made it.
type Function interface{ Signature() Signature }

// Signature is how a kernel is launched.
type Signature struct {
	Name    string
	Params  int // 4 or 8 bytes each
	Threads int // of a block
	Shared  int // bytes that a block takes
}

// Stream runs what it is given in that order. Calls return before the work is done,
// and a fault of a kernel may be told by any later call.
type Stream interface {
	Upload(dst Pointer, src []byte) error   // src may be changed afterwards
	Download(dst []byte, src Pointer) error // waits for all work before it
	Copy(dst, src Pointer, bytes int64) error
	Launch(f Function, grid Grid, args ...uint64) error

	// Capture records the launches of a function without running them; Run repeats
	// them with the arguments that they had. Copies cannot be captured.
	Capture(record func() error) (Graph, error)
	Run(Graph) error

	Wait() error
	Close() error
}

// Graph is a sequence of launches of the device that captured it.
type Graph interface{ Close() error }

// Grid is how many blocks a launch has in each dimension, at least 1.
type Grid struct{ X, Y, Z int }

// Check tells what is wrong with a launch: a number of arguments that is not the
// kernel's, or a grid that no card runs.
func (s Signature) Check(grid Grid, args []uint64) error {
	switch {
	case len(args) != s.Params:
		return fmt.Errorf("launch of %s with %d arguments, %d are wanted", s.Name, len(args), s.Params)
	case grid.X < 1 || grid.Y < 1 || grid.Z < 1 || grid.X > math.MaxInt32 || grid.Y > math.MaxUint16 || grid.Z > math.MaxUint16:
		return fmt.Errorf("launch of %s on a grid of %d × %d × %d blocks", s.Name, grid.X, grid.Y, grid.Z)
	}
	return nil
}

// F32 is a float32 argument.
func F32(x float32) uint64 { return uint64(math.Float32bits(x)) }

// I32 is an int32 argument.
func I32(x int) uint64 { return uint64(uint32(int32(x))) }

// Info describes a card.
type Info struct {
	Index           int // among those of the driver
	Name            string
	Driver          int // the newest CUDA that the driver knows: 12040 is 12.4
	Major, Minor    int // compute capability
	Multiprocessors int
	Memory, Free    int64 // bytes
}

// String is for people: "NVIDIA H100 (compute 9.0, driver for CUDA 12.4)".
func (i Info) String() string {
	return fmt.Sprintf("%s (compute %d.%d, driver for CUDA %s)", i.Name, i.Major, i.Minor, version(i.Driver))
}

// Label tells a card from others: "card 0 (NVIDIA H100)".
func (i Info) Label() string { return fmt.Sprintf("card %d (%s)", i.Index, i.Name) }

func version(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }
